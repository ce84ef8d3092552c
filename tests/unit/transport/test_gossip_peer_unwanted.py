"""What a node says that it does not want, and what becomes of a message that waits behind others:
whoever floods a node neither makes others ban it nor keeps a message from it."""

from __future__ import annotations

import pytest

from tests.unit.transport.test_gossip_wire import TOPIC, WASTED, Net, some_ids
from unchained.node.transport.contract import MessageId, PeerId, Verdict
from unchained.node.transport.gossip_limits import (
    UNWANTED_HEARTBEATS,
    UNWANTED_PER_HEARTBEAT_MAX,
    UNWANTED_SAID_PER_HEARTBEAT_MAX,
    WASTE_PER_FAULT,
)
from unchained.node.transport.gossip_router import UNWANTED_BYTES_MIN
from unchained.node.transport.seen_ids import message_id

HERE, THERE = PeerId("here"), PeerId("there")


def long_message(number: int) -> bytes:
    return number.to_bytes(4, "big") * (UNWANTED_BYTES_MIN // 4)


def unwanted_of(net: Net) -> list[MessageId]:
    """Return what was said not to be wanted, and begin anew."""
    ids = [mid for _, rpc in net.sent for mid in rpc.unwanted]
    net.sent.clear()
    return ids


def validate_all(net: Net, verdict: Verdict) -> list[bytes]:
    """Return what was validated, in order."""
    validated = []
    while (job := net.router.next_job()) is not None:
        net.router.validated(job, verdict)
        validated.append(job.data)
    return validated


def test_what_a_flood_makes_a_node_say_is_no_fault_of_its() -> None:
    here, there = Net(), Net()
    here.join(THERE, "flooder")
    here.receive("flooder", prune=((TOPIC, 600),))
    there.join(HERE)
    number = 0
    for second in range(60):
        for _ in range(1500):
            number += 1
            here.receive("flooder", float(second), messages=((TOPIC, long_message(number)),))
            validate_all(here, Verdict.IGNORE)
        said = unwanted_of(here)
        assert 0 < len(said) <= UNWANTED_SAID_PER_HEARTBEAT_MAX
        there.receive(HERE, float(second), unwanted=tuple(said))
        # The hearts of two nodes do not beat together.
        if second % 2:
            there.router.heartbeat(float(second))
            there.router.heartbeat(float(second))
        here.router.heartbeat(float(second))
    assert there.accused == []


def test_what_is_not_wanted_is_said_once_it_is_being_validated() -> None:
    net = Net(max_validating=1)
    net.join("one", "two", "three")
    first, second = long_message(1), long_message(2)
    net.receive("one", messages=((TOPIC, first), (TOPIC, second)))
    assert net.sent == []
    job = net.router.next_job()
    assert job is not None
    assert unwanted_of(net) == [message_id(TOPIC, first)] * 2
    net.receive("two", messages=((TOPIC, second),))
    net.router.validated(job, Verdict.IGNORE)
    assert net.router.next_job() is not None
    # Who has sent it does not send it again.
    assert [(peer, rpc.unwanted) for peer, rpc in net.sent] == [
        ("three", (message_id(TOPIC, second),))
    ]


def test_ids_that_are_not_wanted_are_taken_to_a_limit_and_go() -> None:
    net = Net()
    net.join("one")
    for beat in range(100):
        start = beat * UNWANTED_PER_HEARTBEAT_MAX
        net.receive("one", unwanted=some_ids(UNWANTED_PER_HEARTBEAT_MAX, start))
        kept = net.router._peers[PeerId("one")]._unwanted
        assert len(kept) <= UNWANTED_HEARTBEATS * UNWANTED_PER_HEARTBEAT_MAX
        net.router.heartbeat(float(beat))
    assert net.accused == []
    for beat in range(UNWANTED_HEARTBEATS):
        net.router.heartbeat(100.0 + beat)
    assert not kept
    for _ in range(WASTE_PER_FAULT // 1000 + 1):
        net.receive("one", unwanted=some_ids(1000))
    assert net.accused == [(PeerId("one"), WASTED)]


def test_who_fills_its_own_line_keeps_no_message_from_the_node() -> None:
    net = Net(max_validating=1, max_waiting=8)
    net.join("flooder", "honest")
    it = long_message(0)
    for number in range(1, 9):
        net.receive("flooder", messages=((TOPIC, long_message(number)),))
    net.receive("flooder", messages=((TOPIC, it),))
    assert message_id(TOPIC, it) not in unwanted_of(net)
    net.receive("honest", messages=((TOPIC, it),))
    assert it in validate_all(net, Verdict.IGNORE)


@pytest.mark.parametrize("how", ["by a third", "by leaving", "by its place"])
def test_a_copy_waits_in_its_own_senders_line(how: str) -> None:
    """Else who sends first, behind much else, delays it for all, or has it dropped after all."""
    net = Net(max_validating=1, max_waiting=9)
    net.join("flooder", "honest", "third")
    for number in range(1, 8):
        net.receive("flooder", messages=((TOPIC, long_message(number)),))
    it = long_message(0)
    net.receive("flooder", messages=((TOPIC, it),))
    net.receive("honest", messages=((TOPIC, it),))
    if how == "by a third":
        net.receive("third", messages=((TOPIC, long_message(8)),))
    elif how == "by leaving":
        net.router.peer_down(PeerId("flooder"))
    order = validate_all(net, Verdict.ACCEPT)
    assert order.count(it) == 1
    assert order.index(it) <= 1
    assert len(set(order)) == len(order)
    # Both have it.
    assert {peer for peer, rpc in net.sent if (TOPIC, it) in rpc.messages} <= {PeerId("third")}


def test_who_sends_copies_of_what_waits_gives_way_first() -> None:
    net = Net(max_validating=1, max_waiting=12)
    net.join("one", "two", "copier")
    honest = [long_message(number) for number in range(10)]
    net.receive("one", messages=tuple((TOPIC, data) for data in honest[:5]))
    net.receive("two", messages=tuple((TOPIC, data) for data in honest[5:]))
    for _ in range(3):
        net.receive("copier", messages=tuple((TOPIC, data) for data in honest))
    net.receive("copier", messages=tuple((TOPIC, long_message(20 + n)) for n in range(10)))
    validated = validate_all(net, Verdict.IGNORE)
    # Its own last ones; what many have sent counts once, and takes nobody's place.
    assert set(honest) < set(validated)
    assert len(validated) == 12
    assert net.router._in_flight == {}


def test_what_all_peers_send_takes_one_place() -> None:
    net = Net(max_validating=1, max_waiting=30)
    peers = [f"peer {number}" for number in range(8)]
    net.join(*peers)
    messages = [long_message(number) for number in range(30)]
    for peer in peers:
        net.receive(peer, messages=tuple((TOPIC, data) for data in messages))
    assert sorted(validate_all(net, Verdict.ACCEPT)) == messages
