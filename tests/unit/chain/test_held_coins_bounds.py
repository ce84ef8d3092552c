"""Coins that wait for a parent or for the clock: what is held, what gives way, what goes."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest

from tests.framework.forge import Forge
from unchained.node.chain import held_coins
from unchained.node.chain.held_coins import (
    MAX_EARLY,
    MAX_EARLY_OF_PEER,
    MAX_ORPHANS,
    MAX_ORPHANS_OF_PARENT,
    MAX_ORPHANS_OF_PEER,
    EarlyCoins,
    HeldCoin,
    Orphans,
)
from unchained.node.chain.results import ProvenCoin
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId


class Peer:
    """A sender of a name."""

    def __init__(self, peer: str) -> None:
        self.peer = peer

    def blame(self, error: ProtocolError) -> None:
        raise AssertionError("nobody is to blame here")


@cache
def some_coin() -> Coin:
    forge = Forge()
    return forge.coin(forge.genesis)


def coin(number: int, parent: int = 0) -> Coin:
    """Return a coin of an id and a parent of one's choosing."""
    made = some_coin()
    header = msgspec.structs.replace(made.header, parent=id_of(parent))
    return Coin(header, made.mix, made.raw, id_of(number))


def id_of(number: int) -> CoinId:
    return CoinId(number.to_bytes(32, "big"))


def held(number: int, peer: str = "a", parent: int = 0) -> HeldCoin:
    return HeldCoin(coin(number, parent), Peer(peer) if peer else None)


def numbers(coins: list[HeldCoin]) -> list[int]:
    return [int.from_bytes(each.coin.id, "big") for each in coins]


def test_as_many_are_held_as_is_written_down() -> None:
    assert (MAX_ORPHANS, MAX_ORPHANS_OF_PEER, MAX_ORPHANS_OF_PARENT) == (4_096, 1_024, 1_024)
    assert (MAX_EARLY, MAX_EARLY_OF_PEER) == (1_024, 256)


def test_a_held_coin_is_of_its_sender_or_our_own() -> None:
    proven = HeldCoin(ProvenCoin(coin(1)), Peer("a"))
    assert (proven.coin, proven.peer) == (coin(1), "a")
    own = HeldCoin(coin(2), None)
    assert (own.coin, own.peer) == (coin(2), "")


# Orphans


@pytest.fixture
def orphans(monkeypatch: pytest.MonkeyPatch) -> Orphans:
    """Room for ten, seven of one peer, five of one parent."""
    monkeypatch.setattr(held_coins, "MAX_ORPHANS", 10)
    monkeypatch.setattr(held_coins, "MAX_ORPHANS_OF_PEER", 7)
    monkeypatch.setattr(held_coins, "MAX_ORPHANS_OF_PARENT", 5)
    return Orphans()


def test_orphans_are_released_by_parent_in_order_of_arrival(orphans: Orphans) -> None:
    for number, parent in ((1, 7), (2, 8), (3, 7)):
        orphans.hold(held(number, parent=parent))
    assert len(orphans) == 3
    assert orphans.parents() == [id_of(7), id_of(8)]
    assert numbers(orphans.release(id_of(7))) == [1, 3]
    assert len(orphans) == 1
    assert orphans.parents() == [id_of(8)]
    assert orphans.release(id_of(7)) == []
    assert numbers(orphans.release(id_of(8))) == [2]
    assert (len(orphans), orphans.parents()) == (0, [])


def test_an_orphan_is_held_once_whoever_sends_it(orphans: Orphans) -> None:
    orphans.hold(held(1, "a"))
    orphans.hold(held(1, "b"))
    assert len(orphans) == 1
    orphans.forget("b")
    assert [each.peer for each in orphans.release(id_of(0))] == ["a"]


def test_of_one_parent_whoever_holds_most_gives_way_the_oldest_first(orphans: Orphans) -> None:
    for number, peer in ((1, "a"), (2, "b"), (3, "b"), (4, "b"), (5, "a")):
        orphans.hold(held(number, peer))
    assert len(orphans) == 5
    orphans.hold(held(6, "a"))  # both have three then, of whom "a" was here first
    assert len(orphans) == 5
    orphans.hold(held(7, "c"))
    assert numbers(orphans.release(id_of(0))) == [3, 4, 5, 6, 7]


def test_of_one_peer_the_oldest_gives_way(orphans: Orphans) -> None:
    orphans.hold(held(100, "b", parent=50))
    for number in range(1, 9):
        orphans.hold(held(number, "a", parent=50 + number))
    assert len(orphans) == 8
    assert orphans.parents() == [id_of(50 + at) for at in (0, 2, 3, 4, 5, 6, 7, 8)]


def test_of_all_whoever_holds_most_gives_way(orphans: Orphans) -> None:
    parents = iter(range(50, 90))
    for number, peer in enumerate("abbbbbaaca", 1):
        orphans.hold(held(number, peer, parent=next(parents)))
    assert len(orphans) == 10
    orphans.hold(held(11, "c", parent=next(parents)))
    assert len(orphans) == 10
    assert id_of(51) not in orphans.parents(), "the oldest of the five of 'b'"
    orphans.hold(held(12, "c", parent=next(parents)))
    assert len(orphans) == 10
    assert id_of(50) not in orphans.parents(), "of two with four each who was here first"


def test_all_of_a_peer_goes_with_it(orphans: Orphans) -> None:
    for number, peer, parent in ((1, "a", 7), (2, "b", 7), (3, "a", 8)):
        orphans.hold(held(number, peer, parent))
    orphans.forget("a")
    orphans.forget("nobody")
    assert len(orphans) == 1
    assert orphans.parents() == [id_of(7)]
    assert numbers(orphans.release(id_of(7))) == [2]
    # Its places are free again, and what it sends is held as before.
    orphans.hold(held(1, "a", 7))
    assert len(orphans) == 1


# Coins ahead of the clock


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> EarlyCoins:
    """Room for six, four of one peer."""
    monkeypatch.setattr(held_coins, "MAX_EARLY", 6)
    monkeypatch.setattr(held_coins, "MAX_EARLY_OF_PEER", 4)
    return EarlyCoins()


def test_early_coins_are_released_when_their_time_has_come(early: EarlyCoins) -> None:
    assert early.next_due_ms() is None
    for number, due_ms in ((1, 300), (2, 100), (3, 200), (4, 200)):
        early.hold(held(number), due_ms)
    assert len(early) == 4
    assert id_of(1) in early
    assert id_of(9) not in early
    assert early.next_due_ms() == 100
    assert early.release(99) == []
    assert numbers(early.release(100)) == [2]
    assert id_of(2) not in early
    assert early.next_due_ms() == 200
    assert numbers(early.release(250)) == [3, 4]
    assert len(early) == 1
    assert numbers(early.release(10_000)) == [1]
    assert (len(early), early.next_due_ms()) == (0, None)


def test_an_early_coin_is_held_once(early: EarlyCoins) -> None:
    early.hold(held(1, "a"), 100)
    early.hold(held(1, "b"), 50)
    assert len(early) == 1
    assert [each.peer for each in early.release(100)] == ["a"]
    assert early.release(10_000) == []


def test_a_peer_has_so_many_places_and_gets_them_back(early: EarlyCoins) -> None:
    for number in range(1, 6):
        assert early.has_room("a") == (number <= 4)
        early.hold(held(number, "a"), 100 + number)
    assert len(early) == 4
    assert id_of(5) not in early
    assert early.has_room("b")
    early.release(101)
    assert early.has_room("a")
    early.hold(held(6, "a"), 200)
    assert not early.has_room("a")


def test_where_all_is_full_the_latest_of_whoever_holds_most_gives_way(early: EarlyCoins) -> None:
    for number, peer, due_ms in (
        (1, "a", 900),
        (2, "b", 500),
        (3, "b", 700),
        (4, "b", 600),
        (5, "c", 800),
        (6, "c", 950),
    ):
        early.hold(held(number, peer), due_ms)
    assert len(early) == 6
    early.hold(held(7, "a"), 990)
    assert len(early) == 6
    assert id_of(3) not in early, "of the three of 'b' it is the latest"
    assert early.has_room("b")
    # It is gone from the queue as well.
    assert numbers(early.release(10_000)) == [2, 4, 5, 1, 6, 7]


def test_what_gave_way_is_passed_over_when_the_next_is_looked_for(early: EarlyCoins) -> None:
    for number, peer in ((1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "c"), (6, "a")):
        early.hold(held(number, peer), 100 * number)
    early.hold(held(7, "d"), 50)
    assert id_of(6) not in early
    assert early.next_due_ms() == 50
    early.forget("d")
    assert early.next_due_ms() == 100
    assert numbers(early.release(500)) == [1, 2, 3, 4, 5]
    assert early.next_due_ms() is None, "600 was that of the one that gave way"


def test_a_coin_that_gave_way_may_come_again(early: EarlyCoins) -> None:
    for number, peer in ((1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "c")):
        early.hold(held(number, peer), 100 * number)
    early.hold(held(7, "c"), 50)
    assert id_of(3) not in early
    assert numbers(early.release(60)) == [7]
    early.hold(held(3, "b"), 300)
    assert [each.peer for each in early.release(300)] == ["a", "a", "b"]


def test_all_early_coins_of_a_peer_go_with_it(early: EarlyCoins) -> None:
    for number, peer, due_ms in ((1, "a", 300), (2, "b", 200), (3, "a", 100), (4, "b", 50)):
        early.hold(held(number, peer), due_ms)
    early.forget("a")
    early.forget("nobody")
    assert len(early) == 2
    assert early.next_due_ms() == 50
    assert numbers(early.release(10_000)) == [4, 2]
    for number in range(5, 9):
        assert early.has_room("a")
        early.hold(held(number, "a"), 100)
    assert not early.has_room("a")
    early.forget("a")
    assert (len(early), early.next_due_ms()) == (0, None)


def test_nothing_is_kept_of_what_is_held_no_more(early: EarlyCoins) -> None:
    """What comes and goes again and again fills neither queue nor table."""
    for _ in range(5):
        for number, peer in enumerate("abcaabb", 1):
            early.hold(held(number, peer), 100)
        early.forget("a")
        assert len(early._heap) == len(early)
        early.release(100)
        assert (len(early._heap), len(early._of_peer)) == (0, 0)
