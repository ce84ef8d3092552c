"""What connecting an anchor puts on disk, and that disconnecting it takes all of that back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.corechain import Chain
from tests.framework.forge import Forged, key_lock
from unchained.node.chain.ledger import Ledger
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import REG
from unchained.node.primitives.transfer import SizedTransfer, output_id
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.schema import (
    AnchorConnected,
    AnchorDisconnected,
    CoinHistory,
    SpentCoin,
    TransferPlace,
)

OF_THE_CHAIN = (
    schema.HEIGHT,
    schema.STATE,
    schema.UNDO,
    schema.UNSPENT,
    schema.HISTORY,
    schema.OWNER,
    schema.TXID,
)
"""The tables that follow from the main chain alone, pages apart."""


class Paying(Chain):
    """A chain whose next anchor spends, chains and pays fees, and lists coins of each kind."""

    def __init__(self) -> None:
        super().__init__()
        forge = self.forge
        self.first = self.take(
            forge.anchor(self.genesis, [forge.coin(self.genesis) for _ in range(3)])
        )
        self.base = self.grow(self.first, 2)
        one, two, three = map(CoinId, self.first.body.fresh)
        self.spent = [one, two]
        self.parent = self.pay(one, REG.subsidy, fee=30_001, to=0)
        self.child = self.pay(
            output_id(self.parent.txid, 0), self.parent.transfer.outputs[0].value, fee=5, to=4
        )
        self.other = forge.transfer([(two, 0)], [(10, 5), (REG.subsidy - 10, 0)])
        self.left_alone = three
        below = self.base.chain()[-2]
        self.fresh = [forge.coin(self.base) for _ in range(2)]
        self.late = forge.coin(below)
        self.anchor = forge.anchor(
            self.base, self.fresh, [self.late], [self.parent, self.child, self.other]
        )

    @property
    def ledger(self) -> Ledger:
        return self.core.ledger

    def dump(self) -> dict[str, Any]:
        """Return all that follows from the main chain, in memory and on disk."""
        ledger, store = self.ledger, self.core.store
        found: dict[str, Any] = {table.name: dict(_rows(table, store)) for table in OF_THE_CHAIN}
        return found | {
            "root": ledger.state_root(),
            "positions": ledger.state.count,
            "history peaks": ledger.history,
            "anchors": (ledger.anchors.count, ledger.anchors.history()),
            "supply": ledger.supply,
            "pool": ledger.pool,
            "tip": schema.meta_id(store, schema.META_TIP),
        }


def _rows(table: Any, store: Any) -> list[tuple[Any, Any]]:
    if table is schema.OWNER:
        return [(pair, schema.OWNER.get(store, *pair)) for pair in schema.OWNER.pairs(store)]
    return list(table.scan(store))


@pytest.fixture
def chain() -> Paying:
    return Paying()


def coins_made(anchor: Forged) -> dict[CoinId, int]:
    """Return the position of each coin that an anchor created."""
    assert anchor.parent is not None
    return {
        coin_id: position
        for coin_id, position in anchor.positions.items()
        if coin_id not in anchor.parent.positions
    }


def test_disconnecting_takes_all_back_that_connecting_put_down(chain: Paying) -> None:
    before = chain.dump()
    chain.take(chain.anchor)
    after = chain.dump()
    assert after["tip"] == chain.anchor.id
    changed = {name for name in before if before[name] != after[name]}
    assert changed == set(before)
    chain.core.set_aside(chain.anchor.id)
    assert chain.core.tip.id == chain.base.id
    assert chain.dump() == before
    chain.core.take_back(chain.anchor.id)
    assert chain.dump() == after
    chain.restart()
    assert chain.dump() == after


def test_the_state_is_that_of_the_text(chain: Paying) -> None:
    chain.take(chain.anchor)
    assert chain.ledger.state_root() == chain.anchor.state_root()
    assert chain.ledger.history.root() == chain.anchor.history_root()
    assert chain.ledger.anchors.history() == chain.ledger.history
    assert chain.ledger.pool == chain.anchor.pool
    assert chain.ledger.supply == sum(m.value for m in chain.anchor.unspent.values())
    assert chain.ledger.state.count == len(chain.anchor.positions)
    record = schema.STATE.get(chain.core.store, chain.anchor.height)
    assert record is not None
    assert (record.positions, record.supply, record.pool) == (
        chain.ledger.state.count,
        chain.ledger.supply,
        chain.ledger.pool,
    )
    assert record.history == chain.ledger.history.to_bytes()


def test_each_coin_of_the_set_is_on_disk(chain: Paying) -> None:
    chain.take(chain.anchor)
    rows = dict(schema.UNSPENT.scan(chain.core.store))
    assert rows.keys() == chain.anchor.unspent.keys()
    for coin_id, member in chain.anchor.unspent.items():
        found = rows[coin_id]
        assert (found.value, found.lock, found.height, found.minted, found.position) == (
            member.value,
            member.lock,
            member.height,
            member.minted,
            chain.anchor.positions[coin_id],
        )
    ids = [chain.spent[0], chain.left_alone, CoinId(b"u" * 32)]
    known = chain.ledger.unspent_many(ids)
    assert known == [None, rows[chain.left_alone], None]
    assert chain.ledger.unspent(chain.left_alone) == rows[chain.left_alone]
    assert [chain.ledger.was_spent(coin_id) for coin_id in ids] == [True, False, False]


def test_each_coin_has_a_history(chain: Paying) -> None:
    chain.take(chain.anchor)
    height, anchor = chain.anchor.height, chain.anchor
    places = coins_made(anchor)
    wanted: dict[CoinId, tuple[Any, ...]] = {}
    share = anchor.unspent[anchor.id].value
    wanted[anchor.id] = (CoinKind.ANCHOR, height, share, b"", 0, 0, b"")
    for index, coin_id in enumerate(map(CoinId, anchor.body.fresh)):
        wanted[coin_id] = (CoinKind.FRESH, height, REG.subsidy, b"", index, 0, b"")
    late = REG.subsidy * 15 // 16
    wanted[chain.late.id] = (CoinKind.LATE, height, late, b"", 0, 0, b"")
    inner = output_id(chain.parent.txid, 0)
    for sized in (chain.parent, chain.child, chain.other):
        for index, output in enumerate(sized.transfer.outputs):
            coin_id = output_id(sized.txid, index)
            spent = (height, chain.child.txid) if coin_id == inner else (0, b"")
            wanted[coin_id] = (CoinKind.OUTPUT, height, output.value, sized.txid, index, *spent)
    assert wanted.keys() == places.keys()
    for coin_id, facts in wanted.items():
        found = schema.HISTORY.get(chain.core.store, coin_id)
        assert found == CoinHistory(*facts, places[coin_id])
    for coin_id, sized in zip(chain.spent, (chain.parent, chain.other), strict=True):
        found = schema.HISTORY.get(chain.core.store, coin_id)
        assert found is not None
        assert (found.height, found.spent_height, found.spent_by) == (1, height, sized.txid)


def test_owners_transfers_and_undo_data_are_on_disk(chain: Paying) -> None:
    chain.take(chain.anchor)
    store, height = chain.core.store, chain.anchor.height
    inner = output_id(chain.parent.txid, 0)
    for coin_id in coins_made(chain.anchor):
        lock = key_lock(0) if coin_id == inner else chain.anchor.unspent[coin_id].lock
        owned = schema.OWNER.get(store, lock, coin_id)
        assert owned is not None, "also of a coin that its own body spends"
        assert owned.height == height
    for index, sized in enumerate((chain.parent, chain.child, chain.other)):
        assert schema.TXID.get(store, sized.txid) == TransferPlace(sized.wid, height, index)
    undo = schema.UNDO.get(store, height)
    assert undo is not None
    before = chain.base
    assert undo.spent == tuple(
        SpentCoin(
            coin_id,
            before.unspent[coin_id].value,
            before.unspent[coin_id].lock,
            1,
            1,
            before.positions[coin_id],
        )
        for coin_id in chain.spent
    )
    assert schema.HEIGHT.get(store, height) == chain.anchor.id


def test_events_are_numbered_from_what_is_on_disk(chain: Paying) -> None:
    ledger = chain.ledger
    first = ledger.next_event
    assert ledger.next_event_on_disk == first
    ledger.log(AnchorConnected(7, chain.base.id))
    ledger.log(AnchorDisconnected(7, chain.base.id))
    assert (ledger.next_event, ledger.next_event_on_disk) == (first + 2, first)
    events = ledger.flush(sync=True, running_ms=1_234)
    assert events == [AnchorConnected(7, chain.base.id), AnchorDisconnected(7, chain.base.id)]
    assert ledger.next_event_on_disk == first + 2
    assert len(ledger.batch) == 0
    store = chain.core.store
    assert [schema.EVENT.get(store, first + at) for at in range(2)] == events
    assert schema.meta_number(store, schema.META_NEXT_EVENT) == first + 2
    assert schema.meta_number(store, schema.META_RUNNING_MS) == 1_234
    assert ledger.flush(sync=True, running_ms=1_235) == []


def test_a_dead_anchor_changes_nothing(chain: Paying) -> None:
    before = chain.dump()
    bad = chain.forge.anchor(chain.base, body_fields={"state_root": bytes(32)})
    chain.take(bad)
    assert chain.is_dead(bad)
    assert chain.dump() == before


def test_anchors_of_one_batch_are_undone_like_others(chain: Paying) -> None:
    before = chain.dump()
    chain.core.begin_bulk()
    chain.take(chain.anchor)
    more: list[SizedTransfer] = [chain.pay(chain.left_alone, REG.subsidy)]
    top = chain.take(chain.forge.anchor(chain.anchor, transfers=more))
    assert chain.core.tip.id == top.id
    chain.core.set_aside(chain.anchor.id)
    chain.core.end_bulk()
    assert chain.dump() == before
    chain.restart()
    assert chain.dump() == before


def test_a_ledger_that_is_opened_has_the_upper_pages_of_the_state_in_memory() -> None:
    chain = Chain()
    tip = chain.take(
        chain.forge.anchor(chain.genesis, [chain.forge.coin(chain.genesis) for _ in range(40)])
    )
    chain.restart()
    ledger = chain.core.ledger
    # The 41 positions lie in three pages, with one above them.
    assert (ledger.state.statistics().clean, ledger.state.statistics().read) == (1, 0)
    assert ledger.state_root() == tip.state_root()
