"""Coins on their way in: who is verified when, what is held, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import pytest
import structlog
import trio
import trio.testing

from tests.framework.forge import Forge
from unchained.node.chain import held_coins
from unchained.node.chain.coin_intake import CoinIntake
from unchained.node.chain.core import ChainCore
from unchained.node.chain.proof_places import ProofPlaces
from unchained.node.chain.results import Held, NeedsProof, Outcome, ProvenCoin
from unchained.node.chain.verifier import Verifier
from unchained.node.chain.writer import ChainWriter
from unchained.node.consensus.errors import (
    BadMixError,
    ProtocolError,
    StaleParentError,
    TimeTooNewError,
    UnknownParentError,
)
from unchained.node.consensus.params import REG
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId

T = TypeVar("T")

START_MS = REG.birth_ms
LIMIT_MS = REG.future_limit_ms


class SettableClock:
    """Virtual time, and what a test adds to it: once, or with each look at it."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self.step_ms = 0
        self._begun = trio.current_time()

    def now_ms(self) -> int:
        shown = START_MS + round((trio.current_time() - self._begun) * 1000) + self.ahead_ms
        self.ahead_ms += self.step_ms
        return shown


class Chain:
    """Stands for the writer, the core behind it and the verifier: knows some parents, and writes
    down what it takes in."""

    def __init__(self) -> None:
        self.forge = Forge()
        self.parents = {self.forge.genesis.id}
        self.taken: list[CoinId] = []
        self.stale: set[CoinId] = set()
        """Coins that break another rule."""
        self.forged: set[CoinId] = set()
        self.verified: list[CoinId] = []
        self.places = ProofPlaces()
        self.in_verification: Counter[str] = Counter()
        self.gates: dict[CoinId, trio.Event] = {}
        """Coins whose verification a test ends."""
        self.on_unknown: Callable[[], None] | None = None

    async def call(self, work: Callable[[ChainCore], T]) -> T:
        await trio.lowlevel.checkpoint()
        return work(cast("ChainCore", self))

    def submit_coin(self, coin: Coin, now_ms: int) -> Outcome | NeedsProof:
        self._check(coin, now_ms)
        return Outcome.KNOWN if coin.id in self.taken else NeedsProof((coin,))

    def submit_proven_coin(self, proven: ProvenCoin, now_ms: int) -> Outcome:
        assert isinstance(proven, ProvenCoin)
        self._check(proven.coin, now_ms)
        if proven.coin.id in self.taken:
            return Outcome.KNOWN
        self.taken.append(proven.coin.id)
        return Outcome.ACCEPTED

    def _check(self, coin: Coin, now_ms: int) -> None:
        if coin.parent not in self.parents:
            if self.on_unknown is not None:
                self.on_unknown()
            raise UnknownParentError(expected="", actual="")
        if coin.header.time > now_ms + LIMIT_MS:
            raise TimeTooNewError(expected="", actual="")
        if coin.id in self.stale:
            raise StaleParentError(expected="", actual="")

    def is_awaited(self, anchor_id: CoinId) -> bool:
        return anchor_id not in self.parents

    async def verify_mixes(
        self, coins: Sequence[Coin], peer: str = "", *, has_place: bool = False
    ) -> None:
        assert has_place
        (coin,) = coins
        self.verified.append(coin.id)
        if coin.id in self.gates:
            await self.gates[coin.id].wait()
        if coin.id in self.forged:
            raise BadMixError(expected="", actual="")


class Peer:
    """A sender that writes down what it is blamed for."""

    def __init__(self, peer: str = "peer") -> None:
        self.peer = peer
        self.blamed: list[str] = []

    def blame(self, error: ProtocolError) -> None:
        self.blamed.append(error.name)


class Bench:
    """An intake at work, and the chain behind it."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.clock = SettableClock()
        self.intake = CoinIntake(
            REG,
            cast("ChainWriter", self.chain),
            cast("Verifier", self.chain),
            clock=self.clock,
            log=structlog.wrap_logger(
                structlog.ReturnLogger(),
                wrapper_class=structlog.make_filtering_bound_logger("critical"),
            ),
        )

    def coin(self, ahead_ms: int = -1, *, gate: bool = False) -> Coin:
        """Return a coin of genesis, so far ahead of what the clock allows at the start."""
        forge = self.chain.forge
        coin = forge.coin(forge.genesis, time=START_MS + LIMIT_MS + ahead_ms)
        if gate:
            self.chain.gates[coin.id] = trio.Event()
        return coin


@asynccontextmanager
async def working() -> AsyncIterator[tuple[Bench, trio.Nursery]]:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.intake.resubmit_released)
        nursery.start_soon(bench.intake.resubmit_early)
        await trio.testing.wait_all_tasks_blocked()
        yield bench, nursery
        nursery.cancel_scope.cancel()


# In verification


async def test_a_coin_that_many_submit_is_verified_once() -> None:
    async with working() as (bench, nursery):
        coin = bench.coin(gate=True)
        outcomes: list[Outcome | Held] = []

        async def submit() -> None:
            outcomes.append(await bench.intake.submit(coin))

        for _ in range(3):
            nursery.start_soon(submit)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.chain.verified == [coin.id]
        bench.chain.gates[coin.id].set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(outcome.name for outcome in outcomes if isinstance(outcome, Outcome)) == [
            "ACCEPTED",
            "KNOWN",
            "KNOWN",
        ]
        assert bench.chain.verified == [coin.id]


async def test_a_proven_coin_is_not_verified() -> None:
    async with working() as (bench, _):
        coin = bench.coin()
        assert await bench.intake.submit(ProvenCoin(coin)) is Outcome.ACCEPTED
        assert await bench.intake.submit(coin) is Outcome.KNOWN
        assert bench.chain.taken == [coin.id]
        assert bench.chain.verified == []


async def test_two_coins_of_a_peer_are_in_verification_at_a_time() -> None:
    async with working() as (bench, nursery):
        peer, chain = Peer(), bench.chain
        coins = [bench.coin(gate=True) for _ in range(6)]
        own, others = bench.coin(gate=True), [bench.coin(gate=True) for _ in range(2)]

        async def submit(coin: Coin, sender: Peer | None) -> None:
            await bench.intake.submit(coin, sender=sender)

        async def pass_on(coin: Coin) -> None:
            chain.gates[coin.id].set()
            await trio.testing.wait_all_tasks_blocked()

        for coin in coins[:4]:
            nursery.start_soon(submit, coin, peer)
            await trio.testing.wait_all_tasks_blocked()
        assert chain.verified == [coin.id for coin in coins[:2]]
        # Neither others nor our own have to wait for that.
        for coin, sender in ((own, None), (others[0], Peer("other")), (others[1], Peer("other"))):
            nursery.start_soon(submit, coin, sender)
        await trio.testing.wait_all_tasks_blocked()
        assert set(chain.verified[2:]) == {own.id, others[0].id, others[1].id}
        del chain.verified[2:]
        await pass_on(coins[0])
        assert chain.verified == [coin.id for coin in coins[:3]]
        await pass_on(coins[1])
        await pass_on(coins[2])
        # One is in verification, and nobody waits: two more make one too many.
        assert chain.verified == [coin.id for coin in coins[:4]]
        for coin in coins[4:]:
            nursery.start_soon(submit, coin, peer)
        await trio.testing.wait_all_tasks_blocked()
        assert len(chain.verified) == 5
        for coin in (*coins[3:], own, *others):
            await pass_on(coin)
        assert len(chain.taken) == 9
        assert not bench.chain.places._places


async def test_what_is_held_of_a_peer_goes_when_it_forges_a_mix() -> None:
    async with working() as (bench, _):
        peer, forge = Peer(), bench.chain.forge
        unknown = forge.anchor(forge.genesis)
        held = [forge.coin(unknown), bench.coin(5_000)]
        for coin in held:
            assert isinstance(await bench.intake.submit(coin, sender=peer), Held)
        kept = forge.coin(unknown)
        await bench.intake.submit(kept, sender=Peer("other"))
        assert (bench.intake.orphans, bench.intake.early) == (2, 1)
        forged = bench.coin()
        bench.chain.forged.add(forged.id)
        with pytest.raises(BadMixError):
            await bench.intake.submit(forged, sender=peer)
        assert (bench.intake.orphans, bench.intake.early) == (1, 0)
        assert not bench.chain.places._places
        # It may be handed in again: nobody has it in hand any more.
        with pytest.raises(BadMixError):
            await bench.intake.submit(forged)


async def test_what_was_released_and_waits_goes_with_a_banned_peer() -> None:
    async with working() as (bench, _):
        peer, forge = Peer(), bench.chain.forge
        anchor = forge.anchor(forge.genesis)
        held = [forge.coin(anchor) for _ in range(4)]
        for coin in held:
            bench.chain.gates[coin.id] = trio.Event()
            await bench.intake.submit(coin, sender=peer)
        bench.chain.parents.add(anchor.id)
        bench.intake.note_counted(anchor.id)
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.chain.verified) == 2
        bench.intake.forget_sender(peer.peer)
        for gate in bench.chain.gates.values():
            gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.chain.taken) == 2


# Unknown parents


async def test_a_coin_waits_for_its_parent_and_is_submitted_again_for_its_sender() -> None:
    async with working() as (bench, _):
        peer, forge = Peer(), bench.chain.forge
        anchor = forge.anchor(forge.genesis)
        good, bad = forge.coin(anchor), forge.coin(anchor)
        bench.chain.stale.add(bad.id)
        for coin in (good, bad):
            assert await bench.intake.submit(coin, sender=peer) == Held(anchor.id)
        assert bench.intake.awaited_anchors() == [anchor.id]
        assert (bench.intake.orphans, bench.chain.verified) == (2, [])
        bench.chain.parents.add(anchor.id)
        bench.intake.note_counted(anchor.id)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.intake.orphans == 0
        assert bench.chain.taken == [good.id]
        assert peer.blamed == ["STALE_PARENT"]


async def test_what_waits_for_a_coin_that_breaks_a_rule_goes_with_it() -> None:
    async with working() as (bench, _):
        forge = bench.chain.forge
        anchor = forge.anchor(forge.genesis)
        child = forge.anchor(anchor)
        grandchild = forge.anchor(child)
        other = forge.coin(forge.anchor(forge.genesis))
        for coin in (child.coin, grandchild.coin, forge.coin(grandchild), other):
            # Of our own nobody is blamed.
            assert isinstance(await bench.intake.submit(coin), Held)
        bench.chain.stale.add(child.id)
        bench.chain.parents.add(anchor.id)
        bench.intake.note_counted(anchor.id)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.intake.awaited_anchors() == [other.parent]
        bench.intake.note_barren(other.parent)
        assert bench.intake.orphans == 0


async def test_a_parent_that_counts_before_its_child_is_held_releases_it_at_once() -> None:
    async with working() as (bench, _):
        forge = bench.chain.forge
        anchor = forge.anchor(forge.genesis)
        coin = forge.coin(anchor)
        bench.chain.on_unknown = lambda: bench.chain.parents.add(anchor.id)
        assert await bench.intake.submit(coin) == Held(anchor.id)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.chain.taken == [coin.id]
        assert bench.intake.orphans == 0


# The clock


async def test_a_coin_that_is_too_new_is_proven_and_waits_for_its_time() -> None:
    async with working() as (bench, _):
        coin = bench.coin(3_000)
        assert await bench.intake.submit(coin) == Held(None)
        # It is held: to hand it in once more makes no work.
        assert await bench.intake.submit(coin) == Held(None)
        assert bench.chain.verified == [coin.id]
        first = ProvenCoin(bench.coin(1_000))
        assert await bench.intake.submit(first) == Held(None)
        assert bench.chain.verified == [coin.id]
        assert bench.intake.early == 2
        await trio.sleep(0.999)
        assert bench.chain.taken == []
        await trio.sleep(0.0015)
        assert bench.chain.taken == [first.coin.id]
        await trio.sleep(1.998)
        assert bench.chain.taken == [first.coin.id]
        await trio.sleep(0.003)
        assert bench.chain.taken == [first.coin.id, coin.id]
        # What was proven once is not proven again.
        assert bench.chain.verified == [coin.id]
        assert bench.intake.early == 0


async def test_what_is_more_than_two_limits_ahead_is_not_held() -> None:
    async with working() as (bench, _):
        far, last = bench.coin(LIMIT_MS + 1), bench.coin(LIMIT_MS)
        with pytest.raises(TimeTooNewError):
            await bench.intake.submit(far)
        assert (bench.intake.early, bench.chain.verified) == (0, [])
        assert await bench.intake.submit(last) == Held(None)


async def test_what_has_no_room_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_coins, "MAX_EARLY_OF_PEER", 1)
    async with working() as (bench, _):
        peer, first, second = Peer(), bench.coin(5_000), bench.coin(6_000)
        assert await bench.intake.submit(first, sender=peer) == Held(None)
        with pytest.raises(TimeTooNewError):
            await bench.intake.submit(second, sender=peer)
        assert bench.chain.verified == [first.id]
        assert await bench.intake.submit(second, sender=Peer("other")) == Held(None)
        assert await bench.intake.submit(first, sender=peer) == Held(None), "held already"


async def test_a_forged_coin_that_is_too_new_is_not_held() -> None:
    async with working() as (bench, _):
        forged = bench.coin(5_000)
        bench.chain.forged.add(forged.id)
        with pytest.raises(BadMixError):
            await bench.intake.submit(forged, sender=Peer())
        assert bench.intake.early == 0


async def test_a_coin_whose_time_comes_while_it_is_looked_for_is_let_in_at_once() -> None:
    async with working() as (bench, _):
        coin = bench.coin(5)
        bench.intake._hold_early(held_coins.HeldCoin(ProvenCoin(coin), None))
        # Not due at the first look, and overdue when it is asked how long that takes.
        bench.clock.step_ms = 10
        begun = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.chain.taken == [coin.id]
        assert trio.current_time() == begun
