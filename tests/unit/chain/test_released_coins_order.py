"""Released coins: a queue for each sender, all served in turn, two of each at a time."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing

from tests.framework.forge import Forge
from unchained.node.chain import released_coins
from unchained.node.chain.held_coins import HeldCoin
from unchained.node.chain.proof_places import PROOFS_PER_PEER
from unchained.node.chain.released_coins import ReleasedCoins
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError


class Peer:
    """A sender of a name."""

    def __init__(self, peer: str) -> None:
        self.peer = peer

    def blame(self, error: ProtocolError) -> None:
        raise AssertionError("nobody is to blame here")


class Intake:
    """Takes coins in when it is let to, and notes how many of each peer it has in hand."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.done: list[bytes] = []
        self.in_hand: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.gate = trio.Event()

    async def submit_again(self, held: HeldCoin) -> None:
        self.begun.append(held.coin.id)
        self.in_hand[held.peer] += 1
        self.most[held.peer] = max(self.most[held.peer], self.in_hand[held.peer])
        await self.gate.wait()
        self.in_hand[held.peer] -= 1
        self.done.append(held.coin.id)


@pytest.fixture(scope="module")
def coins() -> list[Coin]:
    forge = Forge()
    return [forge.coin(forge.genesis) for _ in range(12)]


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_two_coins_of_each_peer_are_in_hand_at_a_time(coins: list[Coin]) -> None:
    released, intake = ReleasedCoins(), Intake()
    for coin in coins[:5]:
        released.add(HeldCoin(coin, Peer("a")))
    released.add(HeldCoin(coins[5], Peer("b")))
    released.add(HeldCoin(coins[6], None))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        await settle()
        assert intake.in_hand == {"a": PROOFS_PER_PEER, "b": 1, "": 1}
        intake.gate.set()
        await settle()
        assert intake.in_hand.total() == 0
        assert sorted(intake.done) == sorted(coin.id for coin in coins[:7])
        first = [coin.id for coin in coins[:5]]
        assert [each for each in intake.begun if each in first] == first, "in order of arrival"
        assert intake.most["a"] == PROOFS_PER_PEER == 2
        # What comes later is served as well, also of a peer that has been served.
        released.add(HeldCoin(coins[7], Peer("a")))
        await settle()
        assert intake.done[-1] == coins[7].id
        nursery.cancel_scope.cancel()


async def test_what_comes_while_a_peer_is_served_is_not_forgotten(coins: list[Coin]) -> None:
    released, intake = ReleasedCoins(), Intake()
    released.add(HeldCoin(coins[0], Peer("a")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        await settle()
        # One of the two hands has found nothing and is gone; the other is busy.
        for coin in coins[1:4]:
            released.add(HeldCoin(coin, Peer("a")))
        await settle()
        assert intake.in_hand["a"] == 1
        intake.gate.set()
        await settle()
        assert intake.done == [coin.id for coin in coins[:4]]
        nursery.cancel_scope.cancel()


class OneByOne(Intake):
    """Adds a coin of the same peer just as its last one is done."""

    def __init__(self, released: ReleasedCoins, more: list[HeldCoin]) -> None:
        super().__init__()
        self.gate.set()
        self._released = released
        self._more = more

    async def submit_again(self, held: HeldCoin) -> None:
        await super().submit_again(held)
        if self._more:
            self._released.add(self._more.pop(0))


async def test_a_queue_that_begins_anew_is_served_to_its_end(coins: list[Coin]) -> None:
    released = ReleasedCoins()
    intake = OneByOne(released, [HeldCoin(coin, Peer("a")) for coin in coins[1:6]])
    released.add(HeldCoin(coins[0], Peer("a")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        await settle()
        assert intake.done == [coin.id for coin in coins[:6]]
        nursery.cancel_scope.cancel()


async def test_what_a_peer_has_sent_goes_with_it(coins: list[Coin]) -> None:
    released, intake = ReleasedCoins(), Intake()
    intake.gate.set()
    for number, coin in enumerate(coins[:6]):
        released.add(HeldCoin(coin, Peer("ab"[number % 2])))
    released.forget("a")
    released.forget("nobody")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        await settle()
        assert sorted(intake.done) == sorted(coin.id for coin in coins[1:6:2])
        nursery.cancel_scope.cancel()


async def test_no_more_wait_than_are_held(
    coins: list[Coin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released_coins, "MAX_ORPHANS", 4)
    released, intake = ReleasedCoins(), Intake()
    for coin in coins[:6]:
        released.add(HeldCoin(coin, Peer("a")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        await settle()
        assert intake.in_hand["a"] == 2
        # Two places are free again, and no third.
        for coin in coins[6:9]:
            released.add(HeldCoin(coin, Peer("b")))
        await settle()
        intake.gate.set()
        await settle()
        assert sorted(intake.done) == sorted(coin.id for coin in (*coins[:4], *coins[6:8]))
        # All of them are free when all is done, and when what waits is forgotten.
        intake.gate = trio.Event()
        for coin in coins[:2]:
            released.add(HeldCoin(coin, Peer("c")))
        await settle()
        for coin in coins[2:6]:
            released.add(HeldCoin(coin, Peer("c")))
        released.forget("c")
        intake.done.clear()
        for coin in coins[6:12]:
            released.add(HeldCoin(coin, Peer("d")))
        intake.gate.set()
        await settle()
        assert sorted(intake.done) == sorted(coin.id for coin in (*coins[:2], *coins[6:10]))
        nursery.cancel_scope.cancel()


async def test_what_comes_just_as_a_peer_has_been_served_is_served_too(coins: list[Coin]) -> None:
    """Whatever the order in which the tasks of one moment run."""
    released, intake = ReleasedCoins(), Intake()
    first, second = (HeldCoin(coin, Peer("a")) for coin in coins[:2])

    async def add_at(gate: trio.Event) -> None:
        await gate.wait()
        released.add(second)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        for rounds in range(1, 51):
            gate = intake.gate = trio.Event()
            released.add(first)
            nursery.start_soon(add_at, gate)
            await settle()
            gate.set()
            await settle()
            assert len(intake.done) == 2 * rounds
        nursery.cancel_scope.cancel()
