from __future__ import annotations

import random
from collections import deque
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2

from unchained.node.transport.contract import (
    MessageId,
    Misbehaviour,
    PeerId,
    TopicLimits,
    Verdict,
)
from unchained.node.transport.gossip_limits import (
    ASKED_OF_PEER_MAX,
    IDS_PER_HEARTBEAT_MAX,
    RPC_ENTRIES_MAX,
    RPC_IDS_MAX,
    RPC_MESSAGES_MAX,
    WASTE_OF_GRAFT,
    WASTE_PER_FAULT,
)
from unchained.node.transport.gossip_router import (
    ASK_AGAIN_S,
    CACHE_ALONE_MAX,
    CACHE_BYTES_MAX,
    GRAFT_BACKOFF_S,
    MESH_PEERS_MAX,
    GossipRouter,
    Rpc,
)
from unchained.node.transport.gossip_wire import GOSSIP_PROTOCOLS, decode, encode, take_batch
from unchained.node.transport.libp2p.streams import (
    ProtocolNotServedError,
    StreamFaultError,
    agree,
    propose,
    propose_one_of,
    read_varint,
    varint,
)
from unchained.node.transport.rpc_fields import RPC_FIELDS_MAX, BadRpcError, count_fields
from unchained.node.transport.seen_ids import message_id

TOPIC = "/t/coin/1"
WASTED = Misbehaviour.WASTED_GOSSIP
topics = st.text(max_size=20)
ids = st.lists(st.binary(min_size=32, max_size=32).map(MessageId), min_size=1, max_size=5)
rpcs = st.builds(
    Rpc,
    subscribe=st.lists(topics, max_size=3).map(tuple),
    unsubscribe=st.lists(topics, max_size=3).map(tuple),
    messages=st.lists(st.tuples(topics, st.binary(max_size=50)), max_size=3).map(tuple),
    have=st.lists(st.tuples(topics, ids.map(tuple)), max_size=2).map(tuple),
    want=st.just(()) | ids.map(tuple),
    unwanted=st.just(()) | ids.map(tuple),
    graft=st.lists(topics, max_size=3).map(tuple),
    prune=st.lists(st.tuples(topics, st.integers(0, 2**32)), max_size=3).map(tuple),
)


class Pipe:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.written = b""

    async def read(self, n: int) -> bytes:
        if len(self.data) < n:
            raise EOFError
        result, self.data = self.data[:n], self.data[n:]
        return result

    async def write(self, data: bytes) -> None:
        self.written += data


def body(*rpcs: Rpc) -> bytes:
    """Return RPCs as one, without its length."""
    data = encode(list(rpcs))
    start = next(at for at, byte in enumerate(data) if byte < 0x80) + 1
    return data[start:]


def some_ids(many: int, start: int = 0) -> tuple[MessageId, ...]:
    return tuple(MessageId(number.to_bytes(32, "big")) for number in range(start, start + many))


def line(text: str) -> bytes:
    return varint(len(text) + 1) + text.encode() + b"\n"


@given(rpcs)
async def test_an_rpc_survives_the_wire(rpc: Rpc) -> None:
    pipe = Pipe(encode([rpc]))
    size = await read_varint(pipe, 1 << 20)
    assert size == len(pipe.data) <= 3 * rpc.size() + 200
    assert decode(pipe.data) == rpc


@given(st.binary(max_size=200))
def test_bytes_are_an_rpc_or_bad(data: bytes) -> None:
    with suppress(BadRpcError):
        assert isinstance(decode(data), Rpc)


def test_merged_rpcs_are_one() -> None:
    data = encode([Rpc(graft=("a",)), Rpc(messages=(("b", b"c"),)), Rpc(graft=("d",))])
    assert decode(data[1:]) == Rpc(messages=(("b", b"c"),), graft=("a", "d"))


@pytest.mark.parametrize("field", ["from_id", "seqno", "signature", "key"])
def test_signed_messages_are_refused(field: str) -> None:
    message = rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], **{field: b"x"})
    with pytest.raises(BadRpcError, match="signed"):
        decode(rpc_pb2.RPC(publish=[message]).SerializeToString())


@pytest.mark.parametrize(
    "rpc",
    [
        Rpc(subscribe=("topic",)),
        Rpc(unsubscribe=("topic",)),
        Rpc(messages=(("topic", b"data"),)),
        Rpc(have=(("topic", (MessageId(bytes(32)),)),)),
        Rpc(graft=("topic",)),
        Rpc(prune=(("topic", 60),)),
    ],
    ids=lambda rpc: next(name for name in rpc.__slots__ if getattr(rpc, name)),
)
def test_a_topic_that_is_no_utf_8_is_refused(rpc: Rpc) -> None:
    framed = encode([rpc])
    with pytest.raises(BadRpcError, match="a topic that is no UTF-8"):
        decode(framed[1:].replace(b"topic", b"\xff\xfe\xfd\xfc\xfb"))


def test_lists_are_bounded() -> None:
    with pytest.raises(BadRpcError, match="entries"):
        decode(body(Rpc(graft=("a",) * RPC_ENTRIES_MAX, subscribe=("a",))))
    with pytest.raises(BadRpcError, match="messages"):
        decode(body(Rpc(messages=((TOPIC, b"x"),) * (RPC_MESSAGES_MAX + 1))))


def test_ids_are_counted_and_not_their_lists() -> None:
    ids = some_ids(RPC_IDS_MAX)
    assert decode(body(Rpc(want=ids))).want == ids
    for rpc in (
        Rpc(want=(*ids, ids[0])),
        Rpc(want=ids[:100], unwanted=ids[100:], have=((TOPIC, ids[:1]),)),
        Rpc(have=((TOPIC, ids), ("other", ids[:1]))),
    ):
        with pytest.raises(BadRpcError, match=f"{RPC_IDS_MAX + 1} ids"):
            decode(body(rpc))


@pytest.mark.parametrize("length", [0, 31, 33, 1 << 18])
def test_an_id_has_32_bytes(length: int) -> None:
    mid = MessageId(bytes(length))
    for rpc in (Rpc(want=(mid,)), Rpc(unwanted=(mid,)), Rpc(have=((TOPIC, (mid,)),))):
        with pytest.raises(BadRpcError, match=f"an id of {length} bytes: 32"):
            decode(body(rpc))


def test_a_mib_of_empty_fields_is_not_parsed() -> None:
    floods = [rpc_pb2.RPC() for _ in range(4)]
    floods[0].control.iwant.add(messageIDs=[b""] * (1 << 19))
    floods[1].publish.add(topicIDs=[""] * (1 << 19))
    floods[2].control.prune.add(peers=[rpc_pb2.PeerInfo()] * (1 << 19))
    floods[3].subscriptions.extend([rpc_pb2.RPC.SubOpts()] * (1 << 19))
    for flood in floods:
        with pytest.raises(BadRpcError, match=f"more than {RPC_FIELDS_MAX} fields"):
            decode(flood.SerializeToString())


@given(rpcs)
def test_what_is_allowed_has_few_fields(rpc: Rpc) -> None:
    lists = (rpc.subscribe, rpc.unsubscribe, rpc.messages, rpc.have, rpc.graft, rpc.prune)
    ids = len(rpc.want) + len(rpc.unwanted) + sum(len(ids) for _, ids in rpc.have)
    assert count_fields(body(rpc)) <= ids + 4 * (sum(map(len, lists)) + 1)


@given(st.lists(rpcs, min_size=1, max_size=5), st.integers(1, 2000))
def test_what_is_sent_as_one_may_be_read_as_one(some: list[Rpc], repeated: int) -> None:
    waiting = deque((some * repeated)[:2000])
    sent = 0
    while waiting:
        batch = take_batch(waiting)
        decode(body(*batch))
        sent += len(batch)
    assert sent == min(2000, len(some) * repeated)


def test_waiting_rpcs_go_out_together() -> None:
    waiting = deque([Rpc(messages=((TOPIC, bytes(198)),))] * 150)
    assert len(take_batch(waiting)) > 100
    assert waiting


@given(st.integers(0, 2**28))
async def test_lengths(value: int) -> None:
    assert await read_varint(Pipe(varint(value)), value) == value


@pytest.mark.parametrize("data", [varint(101), b"\xff" * 20, b"\x80" * 20])
async def test_a_length_is_bounded(data: bytes) -> None:
    with pytest.raises(StreamFaultError):
        await read_varint(Pipe(data), 100)


async def test_agreeing() -> None:
    hello = line("/multistream/1.0.0")
    pipe = Pipe(hello + line("/x") + line("/y"))
    assert await agree(pipe, ("/y",)) == "/y"
    assert pipe.written == hello + line("na") + line("/y")
    for data, error in [
        (line("hello"), StreamFaultError),
        (b"\3abc", StreamFaultError),
        (hello + line("/x\n/z"), StreamFaultError),
        (hello + b"\0", StreamFaultError),
        (hello + line("/x") * 9, ProtocolNotServedError),
        (hello + line("/x") + b"\xff\xff\xff\xff", ProtocolNotServedError),
        (varint(2000), StreamFaultError),
    ]:
        with pytest.raises(error):
            await agree(Pipe(data), ("/y",))


async def test_proposing() -> None:
    hello = line("/multistream/1.0.0")
    pipe = Pipe(hello + line("/x"))
    await propose(pipe, "/x", b"more")
    assert pipe.written == hello + line("/x") + b"more"
    for data, error in [
        (line("hello"), StreamFaultError),
        (hello + line("na"), ProtocolNotServedError),
        (hello + line("/y"), StreamFaultError),
    ]:
        with pytest.raises(error):
            await propose(Pipe(data), "/x")


async def test_proposing_one_protocol_after_the_other() -> None:
    hello = line("/multistream/1.0.0")
    pipe = Pipe(hello + line("na") + line("/y"))
    assert await propose_one_of(pipe, ("/x", "/y", "/z")) == "/y"
    assert pipe.written == hello + line("/x") + line("/y")
    assert await propose_one_of(Pipe(hello + line("/x")), ("/x", "/y")) == "/x"
    with pytest.raises(ProtocolNotServedError):
        await propose_one_of(Pipe(hello + line("na") * 2), ("/x", "/y"))
    with pytest.raises(StreamFaultError):
        await propose_one_of(Pipe(hello + line("na") + line("/z")), ("/x", "/y"))


def test_a_peer_of_gossip_1_1_is_not_told_what_is_not_wanted() -> None:
    best, older = GOSSIP_PROTOCOLS
    rpc = Rpc(want=(MessageId(bytes(32)),), unwanted=(MessageId(bytes(32)),))
    assert decode(encode([rpc], best)[1:]) == rpc
    assert decode(encode([rpc], older)[1:]) == Rpc(want=rpc.want)


class Net:
    """A router whose RPCs are kept."""

    def __init__(self, **limits: int) -> None:
        self.sent: list[tuple[PeerId, Rpc]] = []
        self.accused: list[tuple[PeerId, Misbehaviour]] = []
        self.full = False
        self.router = GossipRouter(self, self, random.Random(1))
        self.router.subscribe(TOPIC, self.validate, TopicLimits(max_size=1 << 20, **limits))

    async def validate(self, peer: PeerId, data: bytes) -> Verdict:
        return Verdict.ACCEPT

    def send_gossip(self, peer: PeerId, rpc: Rpc) -> bool:
        if not self.full:
            self.sent.append((peer, rpc))
        return not self.full

    def accuse(self, peer: PeerId, kind: Misbehaviour, detail: str, topic: str) -> None:
        self.accused.append((peer, kind))

    def join(self, *names: str, outbound: bool = False) -> None:
        for name in names:
            self.router.peer_up(PeerId(name), outbound=outbound)
            self.router.receive(PeerId(name), Rpc(subscribe=(TOPIC,)), 0.0)
        self.sent.clear()

    def receive(self, peer: str, now: float = 0.0, **changes: object) -> None:
        self.router.receive(PeerId(peer), Rpc(**changes), now)  # type: ignore[arg-type]


def test_a_full_house_of_strangers_is_pruned_but_for_those_we_dialled() -> None:
    net = Net()
    net.join(*(f"in {number}" for number in range(30)))
    net.join("out 1", "out 2", "out 3", outbound=True)
    for number in range(30):
        net.receive(f"in {number}", graft=(TOPIC,))
    assert len(net.router.mesh(TOPIC)) == MESH_PEERS_MAX
    net.router.heartbeat(1.0)
    assert sum(peer.startswith("out") for peer in net.router.mesh(TOPIC)) == 2
    net.router.heartbeat(2.0)
    assert len(net.router.mesh(TOPIC)) <= MESH_PEERS_MAX


def test_a_pruned_peer_is_left_alone_for_a_while() -> None:
    net = Net()
    net.join("one")
    net.receive("one", prune=((TOPIC, 30),))
    net.router.heartbeat(1.0)
    assert net.router.mesh(TOPIC) == ()
    net.receive("one", now=2.0, graft=(TOPIC,))
    assert net.sent[-1][1].prune
    net.router.heartbeat(100.0)
    assert net.router.mesh(TOPIC) == ("one",)


def test_ids_are_sent_asked_for_and_answered_within_bounds() -> None:
    net = Net()
    net.join("one")
    mid = net.router.publish(TOPIC, b"coin", 0.0)
    net.sent.clear()
    for _ in range(5):
        net.receive("one", want=(mid, MessageId(bytes(32))))
    assert [rpc.messages for _, rpc in net.sent] == [((TOPIC, b"coin"),)] * 3
    net.sent.clear()
    unknown = some_ids(5000, 1)
    net.router.heartbeat(1.0)
    net.receive("one", have=((TOPIC, (mid, *unknown)),))
    ((_, rpc),) = net.sent
    assert len(rpc.want) == ASKED_OF_PEER_MAX
    net.sent.clear()
    net.router.heartbeat(2.0)
    net.receive("one", now=2.0, have=((TOPIC, unknown[:10]),))
    assert net.sent == []
    net.router.heartbeat(10.0)
    net.receive("one", now=10.0, have=((TOPIC, unknown[:10]),))
    assert len(net.sent[0][1].want) == 10


def test_what_was_dropped_is_sent_later() -> None:
    net = Net()
    net.join("one")
    net.full = True
    mid = net.router.publish(TOPIC, b"coin", 0.0)
    assert net.router.counters.dropped == 1
    net.full = False
    net.router.heartbeat(1.0)
    assert net.sent == [(PeerId("one"), Rpc(have=((TOPIC, (mid,)),)))]


def test_large_messages_are_announced_as_unwanted_and_not_sent_to_who_has_them() -> None:
    net = Net()
    net.join("one", "two", "three")
    data = bytes(5000)
    net.receive("one", messages=((TOPIC, data),))
    mid = message_id(TOPIC, data)
    job = net.router.next_job()
    assert job is not None
    assert net.sent == [(PeerId(peer), Rpc(unwanted=(mid,))) for peer in ("two", "three")]
    net.sent.clear()
    net.receive("two", unwanted=(mid,))
    net.router.validated(job, Verdict.ACCEPT)
    assert [peer for peer, _ in net.sent] == ["three"]


def test_no_peer_takes_all_places_of_ids_asked_for() -> None:
    net = Net()
    net.join("one", "two", "three")
    net.receive("one", have=((TOPIC, some_ids(1000)),))
    net.receive("two", have=((TOPIC, some_ids(1000, 800)),))
    assert [len(rpc.want) for _, rpc in net.sent] == [ASKED_OF_PEER_MAX] * 2
    net.sent.clear()
    net.receive("three", have=((TOPIC, some_ids(1, 1)),))
    assert net.sent == []
    net.router.peer_down(PeerId("one"))
    net.receive("three", have=((TOPIC, some_ids(1, 1)),))
    assert net.sent == [(PeerId("three"), Rpc(want=some_ids(1, 1)))]


def test_what_came_may_be_asked_for_anew() -> None:
    net = Net()
    net.join("one")
    for number in range(3 * ASKED_OF_PEER_MAX):
        data = number.to_bytes(4, "big")
        if number % IDS_PER_HEARTBEAT_MAX == 0:
            net.router.heartbeat(0.0)
        net.receive("one", have=((TOPIC, (message_id(TOPIC, data),)),))
        assert net.sent.pop()[1].want
        net.receive("one", messages=((TOPIC, data),))
        job = net.router.next_job()
        assert job is not None
        net.router.validated(job, Verdict.IGNORE)
    for second in range(2, 2 + int(ASK_AGAIN_S) + 1):
        net.router.heartbeat(float(second))
    assert net.accused == []


@pytest.mark.parametrize("kind", ["want", "unwanted", "have"])
def test_ids_of_no_use_are_a_fault_at_last(kind: str) -> None:
    net = Net()
    net.join("one")
    for second in range(100):
        ids = some_ids(RPC_IDS_MAX, second * RPC_IDS_MAX)
        net.receive("one", float(second), **{kind: ((TOPIC, ids),) if kind == "have" else ids})
        net.router.heartbeat(float(second))
    spent = 100 * RPC_IDS_MAX // WASTE_PER_FAULT
    assert len(net.accused) >= spent // 2
    assert set(net.accused) == {(PeerId("one"), WASTED)}


def test_a_few_ids_of_no_use_are_nobodys_fault() -> None:
    net = Net()
    net.join("one")
    for second in range(1000):
        ids = some_ids(90, second * 90)
        net.receive("one", float(second), want=ids[:10], unwanted=ids[10:])
        net.router.heartbeat(float(second))
    assert net.accused == []


def test_grafts_in_the_back_off_are_a_fault_at_last() -> None:
    net = Net()
    net.join("one")
    net.receive("one", prune=((TOPIC, GRAFT_BACKOFF_S),))
    net.receive("one", graft=(TOPIC,))
    assert net.accused == []
    net.receive("one", graft=(TOPIC,) * (WASTE_PER_FAULT // WASTE_OF_GRAFT))
    assert net.accused == [(PeerId("one"), WASTED)]


def test_unknown_topics_are_not_answered_and_a_fault_at_last() -> None:
    net = Net()
    net.join("one")
    name = "x" * 100_000
    for _ in range(10):
        net.receive("one", graft=(name,) * 100, prune=((name, 1),), unsubscribe=(name,))
    assert net.sent == []
    assert net.accused == [(PeerId("one"), WASTED)]


def test_who_has_most_bytes_waiting_gives_way_where_bytes_are_too_many() -> None:
    net = Net(max_validating=0, max_waiting_bytes=100_000)
    net.join("small", "large")
    net.receive("small", messages=tuple((TOPIC, bytes([number])) for number in range(50)))
    for number in range(20):
        net.receive("large", messages=((TOPIC, bytes([number]) * 10_000),))
    assert len(net.router._in_flight) == 50 + 9


def test_the_cache_is_bounded_and_forgets() -> None:
    net = Net()
    for number in range(40):
        net.router.publish(TOPIC, number.to_bytes(2, "big") * (1 << 19), 0.0)
    assert net.router._cache_bytes <= CACHE_BYTES_MAX
    for second in range(6):
        net.router.heartbeat(float(second))
    assert net.router._cache_bytes == 0
    assert not net.router._cache


def test_a_peer_that_leaves_takes_its_waiting_messages_along() -> None:
    net = Net(max_validating=1)
    net.join("one", "two")
    net.receive("one", messages=tuple((TOPIC, bytes([number])) for number in range(5)))
    job = net.router.next_job()
    assert job is not None
    assert net.router.next_job() is None
    net.router.peer_down(PeerId("one"))
    net.router.validated(job, Verdict.REJECT)
    assert net.router.next_job() is None
    assert net.accused == [(PeerId("one"), Misbehaviour.REJECTED_GOSSIP)]
    net.receive("two", messages=((TOPIC, b"\1"), ("/other", b"x")))
    job = net.router.next_job()
    assert job is not None
    assert job.peer == "two"
    assert net.accused[-1] == (PeerId("two"), Misbehaviour.UNKNOWN_TOPIC)


def test_a_message_that_was_ignored_can_be_published() -> None:
    net = Net()
    net.join("one", "two")
    net.receive("one", messages=((TOPIC, b"coin"),))
    job = net.router.next_job()
    assert job is not None
    net.router.validated(job, Verdict.IGNORE)
    assert net.sent == []
    net.router.publish(TOPIC, b"coin", 1.0)
    assert len(net.sent) == 2
    net.router.publish(TOPIC, b"coin", 1.0)
    assert len(net.sent) == 2


def test_alone_little_is_kept_and_what_is_published_again_goes_out() -> None:
    net = Net()
    for number in range(CACHE_ALONE_MAX + 50):
        net.router.publish(TOPIC, number.to_bytes(2, "big"), 0.0)
    assert len(net.router._seen) == 0
    assert len(net.router._cache) == CACHE_ALONE_MAX
    net.join("one")
    net.router.publish(TOPIC, b"\0\1", 1.0)
    net.router.publish(TOPIC, b"\0\1", 1.0)
    assert [rpc.messages for _, rpc in net.sent if rpc.messages] == [((TOPIC, b"\0\1"),)]


def test_what_was_proposed_is_shown_in_one_line() -> None:
    assert str(ProtocolNotServedError("/x", "", "/\x1b")) == "/x, '', '/\\x1b'"
