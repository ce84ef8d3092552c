from __future__ import annotations

from collections import Counter

import pytest
import trio

from tests.framework.forge import Forge
from tests.unit.chain.test_held_coins import Peer
from unchained.node.chain import released_coins
from unchained.node.chain.held_coins import HeldCoin
from unchained.node.chain.proof_places import PROOFS_PER_PEER
from unchained.node.chain.released_coins import ReleasedCoins


class Intake:
    """Takes a second for each coin; `order` has the senders in order of being done."""

    def __init__(self) -> None:
        self.in_hand: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []

    async def submit_again(self, held: HeldCoin) -> None:
        self.in_hand[held.peer] += 1
        self.most[held.peer] = max(self.most[held.peer], self.in_hand[held.peer])
        await trio.sleep(1)
        self.in_hand[held.peer] -= 1
        self.order.append(held.peer)


def held_by(forge: Forge, name: str, count: int) -> list[HeldCoin]:
    return [HeldCoin(forge.coin(forge.genesis), Peer(name)) for _ in range(count)]


async def test_each_sender_is_served_beside_the_others_two_coins_at_a_time() -> None:
    forge, released, intake = Forge(), ReleasedCoins(), Intake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        for held in (*held_by(forge, "flood", 20), *held_by(forge, "ada", 3)):
            released.add(held)
        await trio.sleep(2.5)
        # A sender's coins wait for its own alone.
        assert intake.order.count("ada") == 3
        assert intake.order.count("flood") == 4
        await trio.sleep(10)
        assert intake.order.count("flood") == 20
        assert intake.most == {"flood": PROOFS_PER_PEER, "ada": PROOFS_PER_PEER}
        # Who comes again is served again.
        released.add(held_by(forge, "ada", 1)[0])
        await trio.sleep(2)
        assert intake.order.count("ada") == 4
        nursery.cancel_scope.cancel()


async def test_what_a_banned_peer_sent_is_let_go_of_and_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(released_coins, "MAX_ORPHANS", 4)
    forge, released, intake = Forge(), ReleasedCoins(), Intake()
    for held in held_by(forge, "flood", 9):
        released.add(held)
    released.add(held_by(forge, "ada", 1)[0])
    released.forget("flood")
    released.forget("nobody")
    for held in held_by(forge, "bob", 4):
        released.add(held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.serve, intake)
        await trio.sleep(5)
        # Of ten there was room for four; after that for four again.
        assert Counter(intake.order) == {"bob": 4}
        released.add(held_by(forge, "ada", 1)[0])
        await trio.sleep(2)
        assert intake.order.count("ada") == 1
        nursery.cancel_scope.cancel()
