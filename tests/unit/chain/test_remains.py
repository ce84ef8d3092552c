"""A chain made anew from what is left of a store has all of it again, and believes nothing else."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import structlog
import trio

from tests.framework.chains import LATE_MS, Feeder, nearly_as_made, open_core
from tests.framework.forge import BACKEND, Forge
from tests.framework.trees import RandomTree
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.remains import (
    EVENTS_UNSEEN,
    Remains,
    TakenIn,
    begin_chain,
    connect_again,
    put_loose,
    sweep_loose,
    take_in_again,
)
from unchained.node.chain.service import ChainService
from unchained.node.chain.tree import AnchorMark, AnchorStatus
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.primitives.body import Body
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.check import check
from unchained.storage.errors import WrongNetworkError
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.memory import MemoryStore
from unchained.storage.open import prepare
from unchained.storage.tables import Table

SEED = 3
GROWN = 60


class Grown:
    """A store with a chain, side branches, votes and waiting transfers, to be damaged."""

    def __init__(self) -> None:
        self.tree = RandomTree(Forge(REG), random.Random(SEED), depth=3)
        self.tree.grow(GROWN)
        self.store = MemoryStore()
        prepare(self.store, REG)
        self.core = open_core(self.store, REG)
        feeder = Feeder(self.core, LATE_MS)
        feeder.submit_all(nearly_as_made(self.tree, random.Random(SEED)))
        assert self.core.tip.height > 5
        self.sound = new_store()
        """The store as it was."""
        batch = Batch()
        for key, value in self.store.items():
            batch.put(key, value)
        self.sound.write(batch, sync=True)

    def body(self, height: int) -> tuple[CoinId, Body]:
        anchor_id = schema.HEIGHT.get(self.store, height)
        assert anchor_id is not None
        record = schema.ANCHOR.get(self.store, anchor_id)
        assert record is not None
        return anchor_id, Body.from_bytes(record.body)

    def lose(self, *keys: bytes) -> None:
        batch = Batch()
        for key in keys:
            assert self.store.get(key) is not None
            batch.delete(key)
        self.store.write(batch, sync=True)

    def height_with(self, listed: str) -> int:
        """Return the lowest height above 1 whose body lists something."""
        return next(
            height
            for height in range(2, self.core.tip.height + 1)
            if getattr(self.body(height)[1], listed)
        )


@pytest.fixture
def grown() -> Grown:
    return Grown()


async def opened(store: KeyValueStore) -> ChainService:
    return await ChainService.open(
        store,
        REG,
        clock=TrioClock(LATE_MS),
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=1,
        backend=BACKEND,
        log=structlog.wrap_logger(
            structlog.ReturnLogger(),
            wrapper_class=structlog.make_filtering_bound_logger("critical"),
        ),
    )


async def made_anew(left: KeyValueStore, store: KeyValueStore) -> tuple[int, TakenIn]:
    remains = Remains(left, REG)
    begin_chain(store, REG, remains)
    chain = await opened(store)
    shown: list[tuple[int, int, int]] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        connected = await connect_again(chain, remains, lambda *step: shown.append(step))
        taken = await take_in_again(chain, remains)
        nursery.cancel_scope.cancel()
    assert shown
    return connected, taken


def new_store() -> MemoryStore:
    store = MemoryStore()
    prepare(store, REG)
    return store


def rows(store: KeyValueStore, table: Table[Any]) -> set[bytes]:
    return set(store.keys(table.start, table.stop))


def assert_same(core: ChainCore, other: ChainCore) -> None:
    assert core.tip.id == other.tip.id
    assert core.ledger.state_root() == other.ledger.state_root()
    for table in (schema.UNSPENT, schema.OWNER, schema.TXID, schema.HEIGHT, schema.BOUND):
        assert rows(core.store, table) == rows(other.store, table), table.name
    assert {entry.wid for entry in core.mempool} == {entry.wid for entry in other.mempool}


async def test_all_that_is_left_comes_back(grown: Grown) -> None:
    # What other tables show may all be gone.
    for table in (schema.UNSPENT, schema.HISTORY, schema.STATE, schema.UNDO, schema.TXID):
        grown.lose(*rows(grown.store, table))
    grown.lose(*rows(grown.store, schema.META))
    store = new_store()
    _, taken = await made_anew(grown.store, store)
    assert taken.lost == ()
    assert check(store, REG).problems == ()
    assert_same(open_core(store, REG), open_core(grown.sound, REG))


@pytest.mark.parametrize("lost", ["body", "coin", "transfer"])
async def test_peers_are_asked_only_for_what_is_gone(grown: Grown, lost: str) -> None:
    height = grown.height_with("transfers" if lost == "transfer" else "fresh")
    anchor_id, body = grown.body(height)
    gone = {
        "body": schema.ANCHOR.key(anchor_id),
        "coin": schema.COIN.key(body.fresh[0] if body.fresh else b""),
        "transfer": schema.TRANSFER.key(body.transfers[0] if body.transfers else b""),
    }[lost]
    grown.lose(gone)
    remains = Remains(grown.store, REG)
    store = new_store()
    await made_anew(grown.store, store)
    assert open_core(store, REG).tip.height == height - 1
    assert check(store, REG).sound

    put_loose(store, remains)
    have = rows(store, schema.COIN) | rows(store, schema.TRANSFER)
    assert have == rows(grown.store, schema.COIN) | rows(grown.store, schema.TRANSFER)
    # What the peers then bring is connected, and nothing is left over that nobody lists.
    await made_anew(grown.sound, store)
    sweep_loose(store)
    assert check(store, REG).problems == ()
    assert_same(open_core(store, REG), open_core(grown.sound, REG))
    for table in (schema.COIN, schema.TRANSFER):
        assert rows(store, table) == rows(grown.sound, table), table.name


def test_nothing_is_believed_that_its_id_does_not_vouch_for(grown: Grown) -> None:
    anchor_id, body = grown.body(grown.height_with("fresh"))
    coin_id = CoinId(body.fresh[0])
    remains = Remains(grown.store, REG)
    assert remains.coin(coin_id) is not None
    assert remains.package(anchor_id) is not None
    batch = Batch()
    key = schema.COIN.key(coin_id)
    raw = bytearray(grown.store.get(key) or b"")
    raw[40] ^= 1
    batch.put(key, bytes(raw))
    grown.store.write(batch, sync=True)
    assert remains.coin(coin_id) is None
    assert remains.package(anchor_id) is None
    assert anchor_id in remains.anchors()
    batch.put(schema.ANCHOR.key(anchor_id), b"\x90")
    grown.store.write(batch, sync=True)
    assert anchor_id not in remains.anchors()
    put_loose(store := new_store(), remains)
    assert store.get(key) is None


def test_what_is_left_of_another_network_is_refused(grown: Grown) -> None:
    with pytest.raises(WrongNetworkError, match="local"):
        Remains(grown.store, LOCAL).check_network()
    Remains(grown.store, REG).check_network()
    Remains(MemoryStore(), LOCAL).check_network()


@pytest.mark.parametrize("row", ["whole", "bodyless", "of another coin"])
async def test_what_was_set_aside_never_counts_in_between(grown: Grown, row: str) -> None:
    wrong, _ = grown.body(grown.core.tip.height - 1)
    top = grown.core.tip.id
    assert grown.core.set_aside(wrong)
    tip = grown.core.tip.id
    assert tip not in (wrong, top)
    record = schema.ANCHOR.get(grown.store, wrong)
    assert record is not None
    if row == "bodyless":
        record = msgspec.structs.replace(record, body=b"", status=AnchorStatus.BODYLESS)
    elif row == "of another coin":
        record = msgspec.structs.replace(record, coin=bytes(len(record.coin)))
    batch = Batch()
    batch.put(schema.ANCHOR.key(wrong), schema.ANCHOR.encode(record))
    grown.store.write(batch, sync=True)
    remains, store = Remains(grown.store, REG), new_store()
    begin_chain(store, REG, remains)
    chain = await opened(store)
    tips = []
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        await connect_again(chain, remains, lambda *_: None)
        tips.append(chain.status.value.tip)
        # Peers know of no set-aside.
        put_loose(store, remains)
        others = Remains(grown.sound, REG)
        await connect_again(chain, others, lambda *_: tips.append(chain.status.value.tip))
        assert (await take_in_again(chain, remains)).lost == ()
        await take_in_again(chain, others)
        tips.append(chain.status.value.tip)
        nursery.cancel_scope.cancel()
    sweep_loose(store)
    assert check(store, REG).problems == ()
    core = open_core(store, REG)
    assert core.tip.id == tips[-1] == tip
    assert not {wrong, top} & set(tips)
    assert core.tree.nodes[wrong].is_set_aside
    assert core.take_back(wrong)
    assert core.tip.id == top


class Killed(Exception):
    """The process ended between two writes."""


class KilledStore(MemoryStore):
    """A store whose process does not live to a second write."""

    written = False

    def write(self, batch: Batch, *, sync: bool) -> None:
        if self.written:
            raise Killed
        super().write(batch, sync=sync)
        self.written = True


def test_a_run_that_is_cut_off_loses_nothing_that_no_chain_shows(grown: Grown) -> None:
    wrong, _ = grown.body(grown.core.tip.height - 1)
    assert grown.core.set_aside(wrong)
    batch = Batch()
    addresses = schema.ADDRESS.key(b"an address")
    batch.put(addresses, b"a row that is taken over as it is")
    grown.store.write(batch, sync=True)
    remains, store = Remains(grown.store, REG), new_store()
    with suppress(Killed):
        begin_chain(KilledStore(store.disk), REG, remains)
    begin_chain(store, REG, remains)
    assert store.get(addresses) is not None
    record = schema.ANCHOR.get(store, wrong)
    assert record is not None
    assert record.marks & AnchorMark.SET_ASIDE
    assert schema.meta_number(store, schema.META_NEXT_EVENT) == remains.next_event


async def test_one_set_aside_that_has_not_come_is_so_when_it_comes(grown: Grown) -> None:
    wrong, _ = grown.body(grown.core.tip.height - 1)
    assert grown.core.set_aside(wrong)
    coin = grown.core.tree.nodes[wrong].coin
    grown.lose(schema.COIN.key(wrong))
    remains, store = Remains(grown.store, REG), new_store()
    # Its parent is not there, so that it is left over.
    key = schema.ANCHOR.key(coin.parent)
    parent = grown.store.get(key)
    assert parent is not None
    grown.lose(key)
    _, taken = await made_anew(grown.store, store)
    assert taken.lost == ()
    put_loose(store, remains)
    sweep_loose(store)
    assert check(store, REG).problems == ()
    assert schema.COIN.get(store, wrong) is None
    await made_anew(grown.sound, store)
    core = open_core(store, REG)
    assert core.tree.nodes[wrong].is_set_aside
    assert core.tip.id == grown.core.tip.id


async def test_a_set_aside_whose_anchor_is_gone_is_named(grown: Grown) -> None:
    wrong, _ = grown.body(grown.core.tip.height - 1)
    assert grown.core.set_aside(wrong)
    record = schema.ANCHOR.get(grown.store, wrong)
    assert record is not None
    batch = Batch()
    torn = msgspec.structs.replace(record, coin=bytes(len(record.coin)))
    batch.put(schema.ANCHOR.key(wrong), schema.ANCHOR.encode(torn))
    batch.delete(schema.COIN.key(wrong))
    grown.store.write(batch, sync=True)
    _, taken = await made_anew(grown.store, new_store())
    assert taken.lost == (
        f"anchor {wrong.hex()} was set aside and its coin is lost: set it aside again when it is "
        "back",
    )


async def test_a_waiting_transfer_that_is_gone_is_named(grown: Grown) -> None:
    wid = schema.TRANSFER.key(bytes(32))
    batch = Batch()
    record = schema.MempoolRecord(1, 1, 1, 1)
    batch.put(schema.MEMPOOL.key(wid[1:]), schema.MEMPOOL.encode(record))
    grown.store.write(batch, sync=True)
    _, taken = await made_anew(grown.store, new_store())
    assert taken.lost == (f"waiting transfer {bytes(32).hex()} is lost: submit it again",)


def test_no_event_has_a_number_that_another_one_had(grown: Grown) -> None:
    remains = Remains(grown.store, REG)
    after = grown.core.ledger.next_event + 1
    assert remains.next_event == after
    store = new_store()
    begin_chain(store, REG, remains)
    assert open_core(store, REG).ledger.next_event == after
    grown.lose(schema.META.key(schema.META_NEXT_EVENT))
    assert remains.next_event == after - 1 + EVENTS_UNSEEN
    # One that has been begun goes on.
    begin_chain(store, REG, remains)
    assert open_core(store, REG).ledger.next_event == after
