from __future__ import annotations

import pytest

from tests.framework.forge import Forge, Forged
from unchained.node.chain import held_coins
from unchained.node.chain.held_coins import EarlyCoins, HeldCoin, Orphans
from unchained.node.chain.results import ProvenCoin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId


class Peer:
    """A sender."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def peer(self) -> str:
        return self._name

    def blame(self, error: ProtocolError) -> None:
        raise AssertionError(f"nobody blames {self._name} here: {error}")


ADA, BOB = Peer("ada"), Peer("bob")


class Coins:
    """Makes coins, each of another id."""

    def __init__(self) -> None:
        self.forge = Forge()
        self.parents: list[Forged] = [self.forge.anchor(self.forge.genesis) for _ in range(3)]

    def of(self, parent: int, sender: Peer | None = None) -> HeldCoin:
        return HeldCoin(self.forge.coin(self.parents[parent]), sender)

    def id(self, parent: int) -> CoinId:
        return self.parents[parent].id


@pytest.fixture
def coins() -> Coins:
    return Coins()


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_coins, "MAX_ORPHANS", 8)
    monkeypatch.setattr(held_coins, "MAX_ORPHANS_OF_PEER", 5)
    monkeypatch.setattr(held_coins, "MAX_ORPHANS_OF_PARENT", 4)
    monkeypatch.setattr(held_coins, "MAX_EARLY", 5)
    monkeypatch.setattr(held_coins, "MAX_EARLY_OF_PEER", 3)


def test_a_held_coin_is_one_whether_it_was_proven(coins: Coins) -> None:
    held = coins.of(0, ADA)
    coin = held.coin
    assert HeldCoin(ProvenCoin(coin), ADA).coin is coin
    assert (held.peer, HeldCoin(coin, None).peer) == ("ada", "")


def test_orphans_are_released_with_their_parent_and_once(coins: Coins) -> None:
    orphans = Orphans()
    first, second, other = coins.of(0, ADA), coins.of(0, BOB), coins.of(1, ADA)
    for held in (first, second, other, first, HeldCoin(first.coin, BOB)):
        orphans.hold(held)
    # The same coin is held once, for who sent it first.
    assert len(orphans) == 3
    assert set(orphans.parents()) == {coins.id(0), coins.id(1)}
    assert orphans.release(coins.id(0)) == [first, second]
    assert orphans.release(coins.id(0)) == []
    assert len(orphans) == 1
    assert orphans.parents() == [coins.id(1)]


@pytest.mark.usefixtures("_small")
def test_a_peers_oldest_orphan_gives_way_to_its_own(coins: Coins) -> None:
    orphans = Orphans()
    mine = [coins.of(number % 3, ADA) for number in range(6)]
    theirs = coins.of(0, BOB)
    orphans.hold(theirs)
    for held in mine:
        orphans.hold(held)
    assert len(orphans) == 6
    kept = [held for parent in range(3) for held in orphans.release(coins.id(parent))]
    assert set(map(id, kept)) == set(map(id, [*mine[1:], theirs]))


@pytest.mark.usefixtures("_small")
def test_one_parent_is_not_filled_by_one_peer(coins: Coins) -> None:
    orphans = Orphans()
    mine = [coins.of(0, ADA) for _ in range(4)]
    theirs = [coins.of(0, BOB) for _ in range(2)]
    for held in (*mine, *theirs):
        orphans.hold(held)
    # Who holds most of the parent's places gives way, its oldest first.
    assert orphans.release(coins.id(0)) == [*mine[2:], *theirs]
    assert len(orphans) == 0


@pytest.mark.usefixtures("_small")
def test_who_holds_most_orphans_gives_way_where_there_is_no_room(coins: Coins) -> None:
    orphans = Orphans()
    mine = [coins.of(number % 2, ADA) for number in range(5)]
    theirs = [coins.of(2, BOB) for _ in range(3)]
    for held in (*mine, *theirs):
        orphans.hold(held)
    assert len(orphans) == 8
    late = coins.of(2, None)
    orphans.hold(late)
    assert len(orphans) == 8
    assert orphans.release(coins.id(2)) == [*theirs, late]
    assert mine[0] not in orphans.release(coins.id(0))


def test_orphans_go_with_a_banned_peer(coins: Coins) -> None:
    orphans = Orphans()
    for parent in (0, 0, 1):
        orphans.hold(coins.of(parent, ADA))
    kept = coins.of(0, BOB)
    orphans.hold(kept)
    orphans.forget("ada")
    orphans.forget("nobody")
    assert len(orphans) == 1
    assert orphans.parents() == [coins.id(0)]
    assert orphans.release(coins.id(0)) == [kept]


def test_early_coins_come_when_they_are_due_in_order(coins: Coins) -> None:
    early = EarlyCoins()
    assert early.next_due_ms() is None
    late, soon, sooner = coins.of(0, ADA), coins.of(0, BOB), coins.of(0, None)
    early.hold(late, 300)
    early.hold(soon, 200)
    early.hold(sooner, 100)
    early.hold(soon, 50)
    assert soon.coin.id in early
    assert len(early) == 3
    assert early.next_due_ms() == 100
    assert early.release(99) == []
    assert early.release(200) == [sooner, soon]
    assert soon.coin.id not in early
    assert early.next_due_ms() == 300
    assert early.release(10_000) == [late]
    assert (len(early), early.next_due_ms()) == (0, None)


@pytest.mark.usefixtures("_small")
def test_early_coins_of_a_peer_and_in_all_are_bounded(coins: Coins) -> None:
    early = EarlyCoins()
    mine = [coins.of(0, ADA) for _ in range(4)]
    for at, held in enumerate(mine):
        assert early.has_room("ada") == (at < 3)
        early.hold(held, 100 + at)
    assert len(early) == 3
    theirs = [coins.of(0, BOB) for _ in range(2)]
    for held in theirs:
        early.hold(held, 1_000)
    own = coins.of(0, None)
    early.hold(own, 5_000)
    # Whoever holds most gives its latest place up.
    assert len(early) == 5
    assert early.release(10_000) == [*mine[:2], *sorted(theirs, key=lambda held: held.coin.id), own]


def test_early_coins_go_with_a_banned_peer(coins: Coins) -> None:
    early = EarlyCoins()
    for due_ms in (10, 20, 30):
        early.hold(coins.of(0, ADA), due_ms)
    kept = coins.of(0, BOB)
    early.hold(kept, 40)
    early.forget("ada")
    assert (len(early), early.next_due_ms()) == (1, 40)
    assert early.has_room("ada")
    assert early.release(50) == [kept]
