"""What becomes of a transfer that is handed on, seen by one node with fakes around it."""

from __future__ import annotations

import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from unchained.node.base.fanout import Watch
from unchained.node.chain.answers import WaitingTransfer
from unchained.node.chain.mempool.mempool import Shown
from unchained.node.chain.results import Outcome
from unchained.node.consensus.errors import BadSignatureError, CoinUnknownError
from unchained.node.peers.ask_rate import AskRate
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.transfer import wid_of
from unchained.node.primitives.types import CoinId, Txid, Wid
from unchained.node.relay import stem
from unchained.node.relay.held_transfer import HeldTransfer
from unchained.node.relay.message_price import DECODING_PRICE_MS_PER_KIB, message_price_ms
from unchained.node.relay.stem import (
    EMBARGO_MIN_S,
    EMBARGO_MORE_S,
    HELD_OF_PEER_MAX,
    PEERS_TRIED_MAX,
    ROUTE_S,
    TURN_WAIT_MAX_S,
    WAITING_MAX,
    StemRouter,
)
from unchained.node.relay.stem_queue import COUNTED_BYTES_MIN, QUEUE_OF_PEER_BYTES_MAX
from unchained.node.transport.contract import PeerGoneError, PeerId
from unchained.node.wire.messages import STEM_EXCHANGE, StemRequest, Taken

PATIENCE_MAX_S = EMBARGO_MIN_S + 30 * EMBARGO_MORE_S
ME_FIRST, ME_SECOND, ME_THIRD = (PeerId(name) for name in ("one", "two", "three"))


class FakeChain:
    """Takes in any bytes; `b"child of X"` builds on `X`, what begins with `bad` is not valid."""

    def __init__(self) -> None:
        self.queries = self
        self.hidden: dict[Wid, bytes] = {}
        self.public: dict[Wid, bytes] = {}
        self.reveal_s = 0.0

    async def submit_transfer(
        self, raw: bytes, *, hidden: bool = False, shown: Shown = frozenset()
    ) -> Outcome:
        await trio.lowlevel.checkpoint()
        if raw.startswith(b"bad"):
            raise BadSignatureError(expected="a signature", actual="none")
        if raw.startswith(b"early"):
            raise CoinUnknownError(expected="a coin", actual="none")
        wid = wid_of(raw)
        if wid in self.hidden or wid in self.public:
            return Outcome.KNOWN
        parent = wid_of(raw.removeprefix(b"child of "))
        if shown is not None and parent in self.hidden and parent not in shown:
            raise CoinUnknownError(expected="a coin", actual="none")
        (self.hidden if hidden else self.public)[wid] = raw
        return Outcome.ACCEPTED

    async def reveal_transfer(self, wid: Wid) -> bool:
        await trio.sleep(self.reveal_s)
        raw = self.hidden.pop(wid, None)
        if raw is not None:
            self.public[wid] = raw
        return raw is not None

    async def waiting_transfer(self, wid: Wid) -> WaitingTransfer | None:
        await trio.lowlevel.checkpoint()
        raw = self.hidden.get(wid) or self.public.get(wid)
        return None if raw is None else self._describe(wid, raw)

    async def waiting_transfers(self, order: str, limit: int, offset: int) -> list[WaitingTransfer]:
        await trio.lowlevel.checkpoint()
        return [self._describe(wid, raw) for wid, raw in self.public.items()][:limit]

    async def hidden_transfers(self) -> list[Wid]:
        await trio.lowlevel.checkpoint()
        return list(self.hidden)

    async def transfer_bytes(self, wid: Wid) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.hidden.get(wid) or self.public.get(wid)

    def _describe(self, wid: Wid, raw: bytes) -> WaitingTransfer:
        parent = raw.removeprefix(b"child of ")
        parents = () if parent == raw else (Txid(wid_of(parent)),)
        return WaitingTransfer(wid, Txid(wid), 1, 1, len(raw), 0, 1, 1, parents, ())


class FakeExchanges:
    """Keeps what is handed on; peers of `gone` take nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[PeerId, bytes]] = []
        self.gone: set[PeerId] = set()
        self.goes: Callable[[], None] = lambda: None
        """Is called when one of these is asked."""
        self.rate: AskRate | None = None
        self.handler: Callable[[PeerId, StemRequest], Awaitable[Taken]]

    def serve(self, exchange: object, layout: object, handler: Any) -> None:
        assert exchange is STEM_EXCHANGE
        self.handler = handler

    def group_of(self, peer: PeerId) -> str:
        return f"group of {peer}"

    def wait_s(self, _exchange: object, peer: PeerId, *, urgent: bool) -> float:
        return 0.0 if self.rate is None else self.rate.wait_s(peer, urgent=urgent)

    async def turn(self, _exchange: object, peer: PeerId, *, urgent: bool = False) -> None:
        if self.rate is not None:
            await self.rate.turn(peer, urgent=urgent)

    async def ask_in_turn(self, _exchange: object, peer: PeerId, request: StemRequest) -> Taken:
        await trio.lowlevel.checkpoint()
        self.asked.append((peer, request.transfer))
        if peer in self.gone:
            self.goes()
            raise PeerGoneError(peer, "stem", "gone")
        return Taken()


class FakePeers:
    def __init__(self) -> None:
        self.exchanges = FakeExchanges()
        self.changed: Watch[int] = Watch(0)
        self.outbound: list[PeerId] = []
        self.inbound: list[PeerId] = []
        self.reputation = self
        self.penalties: list[tuple[PeerId, Penalty]] = []
        self.prices: list[float] = []
        """Of what was of no use, whether it broke a rule or not."""

    def greeted(self) -> list[PeerId]:
        return [*self.outbound, *self.inbound]

    def is_outbound(self, peer: PeerId) -> bool:
        return peer in self.outbound

    def penalize(self, peer: PeerId, penalty: Penalty, why: str, *, ms: float = 0.0) -> None:
        self.penalties.append((peer, penalty))
        self.prices.append(ms)

    def charge_excess(self, _peer: PeerId, _why: str, ms: float) -> None:
        self.prices.append(ms)


class Bench:
    """A node with three outbound peers."""

    def __init__(self) -> None:
        self.chain, self.peers = FakeChain(), FakePeers()
        self.peers.outbound = [ME_FIRST, ME_SECOND, ME_THIRD]
        self.asked = self.peers.exchanges.asked
        self.published: list[bytes] = []
        parts: Any = (self.chain, self, self.peers)
        self.stem = StemRouter(
            *parts, genesis_id=CoinId(bytes(32)), rng=random.Random(5), log=structlog.get_logger()
        )

    async def publish(self, _topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.published.append(data)

    async def serve(self, peer: str, raw: bytes) -> None:
        """Have a peer hand a transfer on, to the point at which it waits for something."""
        answer = await self.peers.exchanges.handler(PeerId(peer), StemRequest(raw))
        assert answer == Taken()
        await trio.testing.wait_all_tasks_blocked()

    async def make(self, raw: bytes) -> Outcome:
        outcome = await self.stem.submit_transfer(raw)
        await trio.testing.wait_all_tasks_blocked()
        return outcome


@asynccontextmanager
async def handing_on() -> AsyncIterator[Bench]:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: bench.stem.run(task_status=task_status))
        yield bench
        nursery.cancel_scope.cancel()


@pytest.fixture
def bench() -> AbstractAsyncContextManager[Bench]:
    return handing_on()


@pytest.fixture
def _never_fluffs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stem, "FLUFF", 0.0)


@pytest.fixture
def _always_fluffs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stem, "FLUFF", 1.0)


@pytest.mark.usefixtures("_never_fluffs")
async def test_all_go_to_one_outbound_peer_for_ten_minutes(bench: Bench) -> None:
    bench.peers.inbound = [PeerId("caller")]
    for number in range(20):
        assert await bench.make(b"own %d" % number) is Outcome.ACCEPTED
        await bench.serve("caller", b"other %d" % number)
    (chosen,) = {peer for peer, _ in bench.asked}
    assert chosen in bench.peers.outbound
    assert len(bench.asked) == 40
    assert bench.published == []
    assert len(bench.chain.hidden) == 40
    seen = {chosen}
    for number in range(12):
        await trio.sleep(ROUTE_S)
        bench.asked.clear()
        await bench.make(b"later %d" % number)
        seen |= {peer for peer, _ in bench.asked}
    assert seen == set(bench.peers.outbound)


@pytest.mark.usefixtures("_always_fluffs")
async def test_own_transfers_are_handed_on_even_while_those_of_others_are_gossiped(
    bench: Bench,
) -> None:
    await bench.make(b"own")
    await bench.serve("caller", b"other")
    assert [raw for _, raw in bench.asked] == [b"own"]
    assert bench.published == [b"other"]
    assert set(bench.chain.public.values()) == {b"other"}
    assert bench.stem.holds(wid_of(b"own"))
    assert not bench.stem.holds(wid_of(b"other"))


async def test_whether_those_of_others_are_gossiped_is_settled_for_ten_minutes(
    bench: Bench,
) -> None:
    gossiping = 0
    for period in range(200):
        before = len(bench.published)
        for number in range(3):
            await bench.serve("caller", b"%d %d" % (period, number))
        new = len(bench.published) - before
        assert new in (0, 3)
        gossiping += new == 3
        for held in list(bench.chain.hidden):
            bench.stem.note_public(held)
        await trio.sleep(ROUTE_S)
    assert 8 <= gossiping <= 36


@pytest.mark.usefixtures("_never_fluffs")
async def test_who_hears_nothing_of_it_gossips_it_in_time(bench: Bench) -> None:
    for number in range(50):
        await bench.make(b"lost %d" % number)
    for number in range(50):
        await bench.make(b"heard %d" % number)
        await bench.chain.reveal_transfer(wid_of(b"heard %d" % number))
        bench.stem.note_public(wid_of(b"heard %d" % number))
    await trio.sleep(EMBARGO_MIN_S - 1)
    assert bench.published == []
    await trio.sleep(EMBARGO_MORE_S)
    assert 10 < len(bench.published) < 50
    await trio.sleep(PATIENCE_MAX_S)
    assert sorted(bench.published) == sorted(b"lost %d" % number for number in range(50))
    assert bench.stem.statistics().embargoes == 50
    assert bench.stem.statistics().held == 0


@pytest.mark.usefixtures("_never_fluffs")
async def test_when_its_peer_takes_nothing_another_does_and_none_is_lost(bench: Bench) -> None:
    await bench.make(b"first")
    chosen = bench.asked[0][0]
    bench.peers.exchanges.gone = {chosen}
    bench.asked.clear()
    await bench.make(b"second")
    assert len(bench.asked) == 2
    assert bench.asked[0][0] == chosen
    bench.peers.outbound.remove(chosen)
    bench.asked.clear()
    await bench.make(b"third")
    assert len(bench.asked) == 1
    bench.peers.outbound.append(chosen)
    bench.peers.exchanges.gone = set(bench.peers.outbound)
    bench.asked.clear()
    await bench.make(b"fourth")
    assert len(bench.asked) == PEERS_TRIED_MAX
    assert bench.published == []
    await trio.sleep(PATIENCE_MAX_S)
    assert b"fourth" in bench.published


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_comes_in_a_circle_goes_to_others_whoever_made_it(bench: Bench) -> None:
    bench.peers.outbound += [PeerId("four"), PeerId("five")]
    for raw, first in ((b"own", bench.make(b"own")), (b"other", bench.serve("caller", b"other"))):
        bench.asked.clear()
        await first
        for number in range(1, 6):
            await bench.serve("caller" if number % 2 else "another", raw)
            # To one more peer each time, until three have had it.
            assert len(bench.asked) == min(1 + number, PEERS_TRIED_MAX)
        assert len({peer for peer, _ in bench.asked}) == PEERS_TRIED_MAX
    assert await bench.make(b"own") is Outcome.KNOWN
    assert len(bench.asked) == PEERS_TRIED_MAX
    assert bench.published == []
    assert bench.peers.penalties == []


@pytest.mark.usefixtures("_never_fluffs")
async def test_it_is_never_handed_back_and_gossiped_where_nobody_else_is(bench: Bench) -> None:
    for peer in bench.peers.outbound:
        await bench.serve(peer, b"from " + peer.encode())
    assert all(raw != b"from " + peer.encode() for peer, raw in bench.asked)
    bench.peers.outbound = []
    bench.peers.inbound = [PeerId("caller")]
    await bench.serve("caller", b"of the only one")
    assert bench.published == [b"of the only one"]
    # Its own go to whom there is, as that one can gossip it as well.
    await bench.make(b"own")
    assert bench.asked[-1] == (PeerId("caller"), b"own")


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_all_have_had_is_gossiped_at_once(bench: Bench) -> None:
    bench.peers.outbound = [ME_FIRST, ME_SECOND]
    await bench.make(b"own")
    await bench.serve(ME_FIRST, b"own")
    await bench.serve(ME_SECOND, b"own")
    assert bench.published == [b"own"]


@pytest.mark.usefixtures("_never_fluffs")
async def test_a_node_without_peers_hides_nothing_and_hands_on_when_one_comes(
    bench: Bench,
) -> None:
    outbound, bench.peers.outbound = bench.peers.outbound, []
    assert await bench.make(b"own") is Outcome.ACCEPTED
    assert set(bench.chain.public.values()) == {b"own"}
    await trio.sleep(PATIENCE_MAX_S)
    assert bench.published == []
    bench.peers.outbound = outbound
    bench.peers.changed.set(1)
    await trio.testing.wait_all_tasks_blocked()
    assert [raw for _, raw in bench.asked] == [b"own"]


async def test_what_builds_on_another_takes_its_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stem, "FLUFF", 0.0)
    monkeypatch.setattr(stem, "EMBARGO_MIN_S", 100 * ROUTE_S)
    await bench.make(b"parent")
    first = bench.asked[0][0]
    for number in range(6):
        await trio.sleep(ROUTE_S)
        await bench.make(b"alien %d" % number)
        if bench.asked[-1][0] != first:
            break
    assert bench.asked[-1][0] != first
    await bench.make(b"child of parent")
    assert bench.asked[-1] == (first, b"child of parent")


@pytest.mark.usefixtures("_always_fluffs")
async def test_parents_are_gossiped_first(bench: Bench) -> None:
    await bench.make(b"parent")
    await bench.serve("caller", b"parent")
    await bench.serve("caller", b"child of parent")
    assert bench.published == [b"parent", b"child of parent"]


@pytest.mark.usefixtures("_never_fluffs")
async def test_a_peer_pays_for_what_is_wrong_and_learns_nothing(bench: Bench) -> None:
    await bench.serve("caller", b"bad signature")
    await bench.serve("caller", b"early")
    assert bench.peers.penalties == [("caller", Penalty.BAN), ("caller", Penalty.COST)]
    assert bench.stem.statistics().held == 0
    with pytest.raises(BadSignatureError):
        await bench.make(b"bad own")
    assert bench.stem.statistics().held == 0
    assert bench.asked == bench.published == []


@pytest.mark.usefixtures("_never_fluffs")
async def test_a_peer_pays_for_length_as_in_gossip_also_for_what_is_known(bench: Bench) -> None:
    long = b"long".ljust(64 << 10)
    await bench.serve("caller", long)
    assert bench.peers.prices == []
    await bench.serve("caller", long)
    await bench.serve("caller", b"early".ljust(64 << 10))
    assert bench.peers.prices == [message_price_ms(len(long))] * 2
    assert bench.peers.prices[0] > 64 * DECODING_PRICE_MS_PER_KIB


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_others_hand_in_does_not_keep_what_is_made_here(bench: Bench) -> None:
    per_second = WAITING_MAX / TURN_WAIT_MAX_S
    bench.peers.exchanges.rate = AskRate(4, per_second)
    for number in range(40):
        for flooder in range(2):
            await bench.serve(f"flooder {flooder}", b"%d of %d" % (number, flooder))
    assert len(bench.asked) == 4
    # What does not go out in time is gossiped at once, not when patience ends.
    assert len(bench.published) == 80 - 4 - WAITING_MAX
    await bench.serve("honest", b"of another")
    began = trio.current_time()
    await bench.make(b"own")
    while b"own" not in [raw for _, raw in bench.asked]:  # noqa: ASYNC110 - until its turn comes
        await trio.sleep(0.1)
    assert trio.current_time() - began < 2 / per_second
    await trio.sleep(TURN_WAIT_MAX_S)
    assert b"of another" in [raw for _, raw in bench.asked]
    assert not {b"own", b"of another"} & set(bench.published)
    assert len({peer for peer, _ in bench.asked}) == 1


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_has_become_public_waits_for_no_turn(bench: Bench) -> None:
    bench.peers.exchanges.rate = AskRate(1, WAITING_MAX / TURN_WAIT_MAX_S)
    await bench.serve("caller", b"first")
    for number in range(WAITING_MAX):
        await bench.serve("caller", b"%d" % number)
        bench.stem.note_public(wid_of(b"%d" % number))
    await bench.make(b"own")
    bench.stem.note_public(wid_of(b"own"))
    await bench.serve("another", b"last")
    await trio.sleep(TURN_WAIT_MAX_S)
    assert [raw for _, raw in bench.asked] == [b"first", b"last"]
    assert bench.published == []


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_becomes_public_while_a_peer_is_asked_is_handed_to_no_other(
    bench: Bench,
) -> None:
    exchanges = bench.peers.exchanges
    exchanges.rate, exchanges.gone = AskRate(100, 100), {ME_FIRST, ME_SECOND, ME_THIRD}
    exchanges.goes = lambda: bench.stem.note_public(wid_of(b"other"))
    await bench.serve("caller", b"other")
    await trio.sleep(PATIENCE_MAX_S)
    assert len(bench.asked) == 1


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_is_made_here_beyond_the_rate_goes_to_other_outbound_peers(
    bench: Bench,
) -> None:
    per_second = WAITING_MAX / TURN_WAIT_MAX_S
    bench.peers.exchanges.rate = AskRate(4, per_second)
    each = 4 + WAITING_MAX
    for number in range(each):
        await bench.make(b"own %d" % number)
    assert len({peer for peer, _ in bench.asked}) == 1
    for number in range(each, 3 * each):
        await bench.make(b"own %d" % number)
    await trio.sleep(TURN_WAIT_MAX_S + 1)
    assert len(bench.asked) == 3 * each
    assert bench.published == []
    # What waited for its turn is then waited for as long as all else.
    assert bench.stem.statistics().embargoes == 0


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_one_peer_has_under_way_is_bounded_and_the_rest_is_gossiped(
    bench: Bench,
) -> None:
    for number in range(HELD_OF_PEER_MAX + 5):
        await bench.serve("flooder", b"%d" % number)
    assert bench.stem.statistics().held == HELD_OF_PEER_MAX
    assert len(bench.published) == 5
    await bench.serve("caller", b"other")
    assert bench.asked[-1][1] == b"other"


async def test_after_a_restart_what_had_just_come_is_handed_on_again() -> None:
    bench = Bench()
    outbound, bench.peers.outbound = bench.peers.outbound, []
    for number in range(3):
        await bench.chain.submit_transfer(b"waiting %d" % number)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: bench.stem.run(task_status=task_status))
        await trio.sleep(60)
        bench.peers.outbound = outbound
        bench.peers.changed.set(1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sorted(raw for _, raw in bench.asked) == [b"waiting %d" % n for n in range(3)]
    assert len({peer for peer, _ in bench.asked}) == 1
    assert bench.published == []


async def test_what_is_handed_on_again_and_not_heard_of_is_gossiped() -> None:
    bench = Bench()
    for number in range(3):
        await bench.chain.submit_transfer(b"waiting %d" % number)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: bench.stem.run(task_status=task_status))
        await trio.testing.wait_all_tasks_blocked()
        bench.stem.note_public(wid_of(b"waiting 1"))
        assert len(bench.asked) == 3
        await trio.sleep(PATIENCE_MAX_S)
        nursery.cancel_scope.cancel()
    assert sorted(bench.published) == [b"waiting 0", b"waiting 2"]


class CuttingChain(FakeChain):
    """Ends who asks at its operation number `cut_at`, which is carried out all the same: as the
    writer does."""

    def __init__(self, cut_at: int) -> None:
        super().__init__()
        self.cut_at = cut_at
        self.asking = trio.CancelScope()
        self._note()

    def _note(self) -> None:
        if self.cut_at == 0:
            self.asking.cancel()
        self.cut_at -= 1

    async def submit_transfer(
        self, raw: bytes, *, hidden: bool = False, shown: Shown = frozenset()
    ) -> Outcome:
        outcome = await super().submit_transfer(raw, hidden=hidden, shown=shown)
        self._note()
        await trio.lowlevel.checkpoint()
        return outcome

    async def reveal_transfer(self, wid: Wid) -> bool:
        was_hidden = await super().reveal_transfer(wid)
        self._note()
        await trio.lowlevel.checkpoint()
        return was_hidden

    async def waiting_transfer(self, wid: Wid) -> WaitingTransfer | None:
        found = await super().waiting_transfer(wid)
        self._note()
        await trio.lowlevel.checkpoint()
        return found


@pytest.mark.parametrize("is_made_here", [True, False])
@pytest.mark.parametrize("fluff", [0.0, 1.0])
@pytest.mark.parametrize("cut_at", range(6))
async def test_who_asks_may_leave_at_any_point_and_nothing_stays_hidden(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, cut_at: int, fluff: float, is_made_here: bool
) -> None:
    monkeypatch.setattr(stem, "FLUFF", fluff)
    chain = CuttingChain(cut_at)
    monkeypatch.setattr(bench.stem, "_chain", chain)
    with chain.asking:
        if is_made_here:
            await bench.make(b"it")
        else:
            await bench.serve("caller", b"it")
    await trio.sleep(PATIENCE_MAX_S)
    assert chain.hidden == {}
    assert bench.stem.statistics().held == 0
    assert bench.published == list(chain.public.values())
    if cut_at:
        assert bench.published == [b"it"]
    assert bench.stem.statistics().found_hidden == 0


async def test_the_answer_waits_for_nothing_that_depends_on_the_transfer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.make(b"under way")
    await bench.chain.submit_transfer(b"known")
    reached = trio.Event()

    async def stall(*_args: object, **_options: object) -> Outcome:
        reached.set()
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(bench.chain, "submit_transfer", stall)
    for number, raw in enumerate((b"under way", b"known", b"new", b"bad signature")):
        for peer in ("caller", f"caller {number}"):
            with trio.fail_after(0.001):
                await bench.serve(peer, raw)
    assert reached.is_set()
    with trio.move_on_after(5) as waiting:
        await bench.stem.submit_transfer(b"own")
    assert waiting.cancelled_caught


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_waits_is_bounded_and_in_order_and_its_peer_pays_when_its_turn_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = trio.Event()
    submit = bench.chain.submit_transfer

    async def wait_and_submit(raw: bytes, **how: Any) -> Outcome:
        await gate.wait()
        return await submit(raw, **how)

    monkeypatch.setattr(bench.chain, "submit_transfer", wait_and_submit)
    for number in range(200):
        await bench.serve("flooder", b"%d" % number)
    await bench.serve("liar", b"bad signature")
    await bench.serve("liar", b"goes with it")
    await bench.serve("caller", b"parent")
    await bench.serve("caller", b"child of parent")
    waiting = QUEUE_OF_PEER_BYTES_MAX // COUNTED_BYTES_MIN
    assert bench.stem.statistics().queued == waiting + 4
    assert bench.stem.statistics().left_out == 200 - waiting
    assert bench.peers.penalties == []
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.stem.statistics().queued == 0
    assert bench.peers.penalties == [("liar", Penalty.BAN)]
    made = list(bench.chain.hidden.values())
    assert [raw for raw in made if raw.isdigit()] == [b"%d" % number for number in range(waiting)]
    assert [raw for raw in made if not raw.isdigit()] == [b"parent", b"child of parent"]


async def test_what_comes_before_it_runs_is_taken_in_when_it_does() -> None:
    bench = Bench()
    await bench.serve("caller", b"before")
    assert bench.chain.hidden == bench.chain.public == {}
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: bench.stem.run(task_status=task_status))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [raw for _, raw in bench.asked] + bench.published == [b"before"]


async def test_who_waits_when_the_stem_stops_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()

    async def stall(*_args: object, **_options: object) -> Outcome:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(bench.chain, "submit_transfer", stall)
    async with trio.open_nursery() as outer:
        inner = await outer.start(_run_within, bench)

        async def submit() -> None:
            with pytest.raises(trio.ClosedResourceError, match="stopped"):
                await bench.stem.submit_transfer(b"own")

        outer.start_soon(submit)
        await trio.testing.wait_all_tasks_blocked()
        inner.cancel()


async def _run_within(bench: Bench, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: bench.stem.run(task_status=task_status))
            task_status.started(scope)


async def test_what_is_hidden_though_nobody_carries_it_is_gossiped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stem, "FLUFF", 0.0)
    monkeypatch.setattr(stem, "EMBARGO_MIN_S", 10 * stem.HIDDEN_LOOK_S)
    await bench.chain.submit_transfer(b"left", hidden=True)
    await bench.make(b"carried")
    await trio.sleep(2 * stem.HIDDEN_LOOK_S + 1)
    assert bench.published == [b"left"]
    assert bench.stem.statistics().found_hidden == 1
    assert list(bench.chain.hidden.values()) == [b"carried"]


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_comes_by_gossip_while_it_is_taken_in_is_not_hidden(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = bench.chain.submit_transfer

    async def hear_and_submit(raw: bytes, **how: Any) -> Outcome:
        bench.stem.note_public(wid_of(raw))
        return await submit(raw, **how)

    monkeypatch.setattr(bench.chain, "submit_transfer", hear_and_submit)
    await bench.serve("caller", b"heard of")
    assert bench.chain.hidden == {}


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_is_hidden_counts_for_nobody_but_who_handed_it_in(bench: Bench) -> None:
    """Else whoever sends a child could tell from what becomes of it that its parent is here."""
    child = b"child of parent"
    await bench.serve("caller", b"parent")
    await bench.serve("stranger", child)
    assert wid_of(child) not in bench.chain.hidden
    assert bench.peers.penalties == [("stranger", Penalty.COST)]
    # Who has had the parent as well may know.
    await bench.serve("stranger", b"parent")
    await bench.serve("stranger", child)
    assert wid_of(child) in bench.chain.hidden
    # What is made here may build on all of it.
    await bench.serve("third", b"other parent")
    assert await bench.stem.submit_transfer(b"child of other parent") is Outcome.ACCEPTED


@pytest.mark.usefixtures("_never_fluffs")
async def test_the_end_of_patience_does_not_cut_gossiping_short(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stem, "EMBARGO_MIN_S", 0.5)
    monkeypatch.setattr(stem, "EMBARGO_MORE_S", 0.5)
    bench.peers.outbound = [ME_FIRST]
    bench.chain.reveal_s = stem.HIDDEN_LOOK_S / 2
    await bench.serve(ME_FIRST, b"of the only one")
    await trio.sleep(10 * stem.HIDDEN_LOOK_S)
    assert bench.chain.hidden == {}
    assert bench.published == [b"of the only one"]


@pytest.mark.usefixtures("_never_fluffs")
async def test_what_is_known_already_is_not_held(bench: Bench) -> None:
    await trio.testing.wait_all_tasks_blocked()
    bench.chain.public[wid_of(b"known")] = b"known"
    await bench.serve("caller", b"known")
    assert not bench.stem.holds(wid_of(b"known"))
    assert bench.stem.statistics().held == 0


async def test_what_is_public_keeps_nothing_that_it_builds_on(bench: Bench) -> None:
    raw = b"first"
    for _ in range(20):
        await bench.make(raw)
        bench.stem.note_public(wid_of(raw))
        raw = b"child of " + raw
    links = [raw]
    for _ in range(20):
        await bench.make(links[-1])
        links.append(b"child of " + links[-1])
        for link in links[:-2]:
            bench.stem.note_public(wid_of(link))
    await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    kept = [it for it in gc.get_objects() if isinstance(it, HeldTransfer)]
    assert len(kept) <= 2
