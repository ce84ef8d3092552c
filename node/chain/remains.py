"""A chain made anew from what is left of a damaged store.

What is left is believed only where its own id vouches for it: a coin, a transfer or a body that
hashes to what it is kept under is what this node once validated. All that follows from these
(coin set, histories, indexes, ranges, undo data, events) is made again by connecting the anchors
in a new store, by all rules. `docs/decisions/remade-chain.md` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from unchained.node.chain.opened_chain import genesis_rows
from unchained.node.chain.results import Outcome, Package, ProvenCoin
from unchained.node.chain.service import ChainService
from unchained.node.chain.tree import AnchorMark, AnchorStatus
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import PolicyError
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.transfer import SizedTransfer, wid_of
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage import schema
from unchained.storage.errors import StoreCorruptError, WrongNetworkError
from unchained.storage.kv import Batch, KeyValueStore, Reader
from unchained.storage.tables import Table

V = TypeVar("V")

ANCHORS_AT_ONCE: Final = 64
"""Anchors that are read and connected together."""

BATCH_BYTES: Final = 1 << 20
"""Bytes of rows that are copied together."""

EVENTS_UNSEEN: Final = 1 << 20
"""How far the events' numbers are moved on where the next one's is lost: a batch of writes has
fewer events, and of no event that was ever told is the number used again."""


class Remains:
    """What is left of a store: every answer is vouched for by its own id, or None."""

    def __init__(self, reader: Reader, network: Network) -> None:
        self._reader = reader
        self._network = network

    def check_network(self) -> None:
        """Raise `WrongNetworkError` if what is left is another network's."""
        genesis = genesis_of(self._network).id
        marked = self._get(schema.META, schema.META.key(schema.META_GENESIS))
        lowest = self._get(schema.HEIGHT, schema.HEIGHT.key(0))
        if any(found not in (None, genesis) for found in (marked, lowest)):
            raise WrongNetworkError(
                f"what is left of the store is not of {self._network.name}: name another "
                "--data-dir or --network"
            )

    @property
    def height(self) -> int:
        """The highest anchor that the main chain is known to have had, 0 if none is."""
        last = next(self._reader.keys(schema.HEIGHT.start, schema.HEIGHT.stop, reverse=True), None)
        return 0 if last is None else int.from_bytes(last[1:9], "big")

    @property
    def next_event(self) -> int:
        """A number that no event had, nor one that was to come when the store was written last."""
        said = self._get(schema.META, schema.META.key(schema.META_NEXT_EVENT))
        last = next(self._reader.keys(schema.EVENT.start, schema.EVENT.stop, reverse=True), None)
        seen = 0 if last is None else int.from_bytes(last[1:9], "big") + 1
        if said is not None and len(said) == 8:
            return max(seen, int.from_bytes(said, "big")) + 1
        return seen + EVENTS_UNSEEN

    def anchors(self) -> list[CoinId]:
        """Return the anchors whose bodies are left, the lowest first."""
        found = []
        for key, raw in self._reader.items(schema.ANCHOR.start, schema.ANCHOR.stop):
            record = self._anchor_of(key, raw)
            if record is not None and record[1].height:
                found.append((record[1].height, record[1].id))
        return [anchor_id for _, anchor_id in sorted(found)]

    def package(self, anchor_id: CoinId) -> Package | None:
        """Return an anchor with all that it lists, None if something of it is gone."""
        key = schema.ANCHOR.key(anchor_id)
        raw = self._reader.get(key)
        found = None if raw is None else self._anchor_of(key, raw)
        if found is None:
            return None
        _, anchor, body = found
        coins: dict[CoinId, Coin] = {}
        for listed in map(CoinId, (*body.fresh, *body.uncles)):
            coin = self.coin(listed)
            if coin is None:
                return None
            coins[listed] = coin
        transfers: dict[Wid, bytes] = {}
        for wid in map(Wid, body.transfers):
            encoded = self.transfer(wid)
            if encoded is None:
                return None
            transfers[wid] = encoded
        return Package(anchor, body, coins, transfers)

    def set_aside(self) -> list[tuple[CoinId, Coin | None]]:
        """Return the anchors that the operator has set aside, with their bodies or without; None
        for the coin of one that is gone."""
        found = []
        for key, raw in self._reader.items(schema.ANCHOR.start, schema.ANCHOR.stop):
            try:
                record = schema.ANCHOR.decode(key, raw)
            except StoreCorruptError:
                continue
            if record.marks & AnchorMark.SET_ASIDE:
                anchor_id = CoinId(key[1:])
                found.append((anchor_id, _coin_of(anchor_id, record.coin) or self.coin(anchor_id)))
        return found

    def coin(self, coin_id: CoinId) -> Coin | None:
        """Return a coin."""
        raw = self._get(schema.COIN, schema.COIN.key(coin_id))
        return None if raw is None else _coin_of(coin_id, raw)

    def transfer(self, wid: Wid) -> bytes | None:
        """Return a transfer's encoding."""
        raw = self._get(schema.TRANSFER, schema.TRANSFER.key(wid))
        return raw if raw is not None and wid_of(raw) == wid else None

    def coins_from(self, height: int) -> Iterator[Coin]:
        """Return the coins of a height and above, listed or not."""
        for key, raw in self._reader.items(schema.COIN.start, schema.COIN.stop):
            coin = _coin_of(CoinId(key[1:]), raw)
            if coin is not None and coin.height >= height:
                yield coin

    def waiting(self) -> list[tuple[Wid, bytes | None]]:
        """Return the transfers that waited, in the order in which they came; None for the encoding
        of one that is gone."""
        found = []
        for key in self._reader.keys(schema.MEMPOOL.start, schema.MEMPOOL.stop):
            record = self._get(schema.MEMPOOL, key)
            arrival = 0 if record is None else record.arrival
            found.append((arrival, Wid(key[1:])))
        return [(wid, self.transfer(wid)) for _, wid in sorted(found)]

    def rows(self, table: Table[Any]) -> Iterator[tuple[bytes, bytes]]:
        """Return a table's rows as they are."""
        return self._reader.items(table.start, table.stop)

    def _get(self, table: Table[V], key: bytes) -> V | None:
        try:
            return table.read(self._reader, key)
        except StoreCorruptError:
            return None

    def _anchor_of(self, key: bytes, raw: bytes) -> tuple[schema.AnchorRecord, Coin, Body] | None:
        """Return what an anchor's row holds, None if it is damaged or has no body."""
        try:
            record = schema.ANCHOR.decode(key, raw)
            anchor, body = Coin.from_bytes(record.coin), Body.from_bytes(record.body)
        except (StoreCorruptError, NonCanonicalError):
            return None
        return (record, anchor, body) if anchor.id == key[1:] else None


class TakenIn(msgspec.Struct, frozen=True):
    """What came back beside the anchors: coins that no anchor lists, and waiting transfers."""

    votes: int
    transfers: int
    lost: tuple[str, ...]
    """What did not come back, one line for each."""


def begin_chain(store: KeyValueStore, network: Network, remains: Remains) -> None:
    """Lay down genesis in a new store, and take over what no chain shows: addresses and bans of
    peers, which anchors are set aside, and from where on events are to be numbered: all of it or
    nothing. Nothing for one that has been begun."""
    if schema.meta_id(store, schema.META_TIP) is not None:
        return
    # With genesis, which says that it has been begun: a run that was cut off loses none of it.
    batch = genesis_rows(store, network)
    for table in (schema.ADDRESS, schema.BAN):
        for key, raw in remains.rows(table):
            batch.put(key, raw)
    # Before any of them comes, from here or from peers: none counts in between.
    for anchor_id, coin in remains.set_aside():
        if coin is not None:
            record = schema.AnchorRecord(
                coin.raw, b"", AnchorStatus.BODYLESS, 0, 0, AnchorMark.SET_ASIDE
            )
            batch.put(schema.ANCHOR.key(anchor_id), schema.ANCHOR.encode(record))
    number = schema.encode_number(remains.next_event)
    batch.put(schema.META.key(schema.META_NEXT_EVENT), number)
    store.write(batch, sync=True)


async def connect_again(
    chain: ChainService, remains: Remains, show: Callable[[int, int, int], None]
) -> int:
    """Connect the anchors that are left, up to the first of each branch that lacks something;
    return how many there were. `show` is told the height, and how many of how many are done."""
    anchors = remains.anchors()
    taken = {genesis_of(chain.network).id}
    connected = 0
    async with chain.bulk():
        for at in range(0, len(anchors), ANCHORS_AT_ONCE):
            found = map(remains.package, anchors[at : at + ANCHORS_AT_ONCE])
            packages = [package for package in found if package is not None]
            connected += await _connect(chain, packages, taken)
            show(chain.status.value.height, at + len(packages), len(anchors))
    return connected


async def _connect(chain: ChainService, packages: list[Package], taken: set[CoinId]) -> int:
    """Connect those of some anchors whose parents are `taken`, and add them to these."""
    connected = 0
    while packages:
        run = []
        for package in packages:
            if package.anchor.parent in taken:
                taken.add(package.anchor.id)
                run.append(package)
        # Their ids vouch for them: their proofs were verified before they were first stored.
        proven = {coin for package in run for coin in (package.anchor.id, *package.coins)}
        done, error = await chain.submit_chain(run, proven=proven)
        connected += done
        if error is None:
            break
        # One that broke a rule, as those may that are on no main chain: the others have a turn.
        taken -= {package.anchor.id for package in run[done:]}
        packages = run[done + 1 :]
    return connected


async def take_in_again(chain: ChainService, remains: Remains) -> TakenIn:
    """Let coins that no anchor lists count again, and transfers wait: once the chain is whole."""
    votes = 0
    async with chain.bulk():
        # Protocol §6: what is bound to anchors below is no vote any more
        for coin in remains.coins_from(chain.status.value.height - chain.network.max_reorg):
            try:
                outcome = await chain.submit_coin(ProvenCoin(coin))
            except ProtocolError:
                continue  # of an anchor that is gone, or does not count
            votes += outcome is Outcome.ACCEPTED
    lost = []
    for anchor_id, anchor in remains.set_aside():
        if anchor is None:
            lost.append(
                f"anchor {anchor_id.hex()} was set aside and its coin is lost: set it aside again "
                "when it is back"
            )
    waiting = 0
    for wid, raw in remains.waiting():
        if raw is None:
            lost.append(f"waiting transfer {wid.hex()} is lost: submit it again")
            continue
        try:
            await chain.submit_transfer(raw)
        except (ProtocolError, PolicyError):
            continue  # the chain has it, or does not allow it any more
        waiting += 1
    return TakenIn(votes, waiting, tuple(lost))


def put_loose(store: KeyValueStore, remains: Remains) -> None:
    """Put coins and transfers that are left into a store beside the chain, so that they need not
    be asked for with the bodies that list them; `sweep_loose` takes away what none does."""
    batch = Batch()
    for table, is_whole in (
        (schema.COIN, lambda key, raw: _coin_of(CoinId(key[1:]), raw) is not None),
        (schema.TRANSFER, lambda key, raw: wid_of(raw) == key[1:]),
    ):
        for key, raw in remains.rows(table):
            if is_whole(key, raw) and store.get(key) is None:
                batch.put(key, raw)
            if batch.size >= BATCH_BYTES:
                store.write(batch, sync=False)
                batch = Batch()
    store.write(batch, sync=True)


def sweep_loose(store: KeyValueStore) -> int:
    """Take coins and transfers out of a store that nothing in it lists or waits for; return how
    many. Nobody else may have it open."""
    listed: set[bytes] = set()
    main = {anchor_id for _, anchor_id in schema.HEIGHT.scan(store)}
    for anchor_id, record in schema.ANCHOR.scan(store):
        if anchor_id not in main and record.body:
            body = Body.from_bytes(record.body)
            listed.update((*body.fresh, *body.uncles, *body.transfers))
    batch = Batch()
    swept = 0
    for table, is_held in ((schema.COIN, _is_held_coin), (schema.TRANSFER, _is_held_transfer)):
        for key, raw in store.items(table.start, table.stop):
            if key[1:] not in listed and not is_held(store, key[1:], raw):
                batch.delete(key)
                swept += 1
            if len(batch) >= ANCHORS_AT_ONCE:
                store.write(batch, sync=False)
                batch = Batch()
    store.write(batch, sync=True)
    return swept


def _is_held_coin(store: KeyValueStore, coin_id: bytes, raw: bytes) -> bool:
    bound = schema.BOUND.key(Coin.from_bytes(raw).parent, coin_id)
    if any(found is not None for found in store.get_many((schema.HISTORY.key(coin_id), bound))):
        return True
    record = schema.ANCHOR.get(store, coin_id)
    # What has no body and is bound to nothing is only said to be set aside, should it come.
    return record is not None and record.status != AnchorStatus.BODYLESS


def _is_held_transfer(store: KeyValueStore, wid: bytes, raw: bytes) -> bool:
    if store.get(schema.MEMPOOL.key(wid)) is not None:
        return True
    place = schema.TXID.get(store, SizedTransfer.from_bytes(raw).txid)
    return place is not None and place.wid == wid


def _coin_of(coin_id: CoinId, raw: bytes) -> Coin | None:
    try:
        coin = Coin.from_bytes(raw)
    except NonCanonicalError:
        return None
    return coin if coin.id == coin_id else None
