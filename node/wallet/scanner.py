"""Follows the chain for one wallet: reads what a snapshot of the chain's store has and the wallet
has not yet seen, in chunks, each of which is one transaction of the wallet's own file.

The wallet's place is the id of the last anchor that it has read. Where that anchor is no longer
on the main chain, the wallet goes back to the last one that is, and on from there: what it knows
is that of the main chain, whatever happened in between. What waits in the mempool is read from
the event log, from the wallet's own cursor on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import Wid
from unchained.node.wallet.link import RecentTransfers
from unchained.node.wallet.recogniser import FoundCoin, Recogniser, TransferFinds
from unchained.node.wallet.records import ScanProgress
from unchained.node.wallet.wallet_store import WalletStore
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.schema import TransferEntered, TransferLeft

CHUNK_ITEMS: Final = 2_048
"""Coins and outputs after which a chunk ends: a tenth of a second of work."""

OUTPUT_BYTES: Final = 1_150
"""Bytes of an output with a note, for an estimate."""

CHUNK_ANCHORS: Final = 512
"""Most anchors of a chunk."""

MAX_EVENTS: Final = 50_000
"""Events above which the mempool is read whole instead."""

QUIET_EVENTS: Final = 1_000
"""Events without a transfer that are rather read again than noted: each note waits for the disk."""

EXTRA_ANCHORS: Final = 64
"""Ids kept beyond the deepest reorganisation that a node makes by itself."""

RESCAN_NEXT: Final = "rescan next"
"""The number in a wallet's store that says at which height a rescan goes on."""

_EVENTS: Final = "events"
_RESCAN_FROM: Final = "rescan from"


class ScanStep(msgspec.Struct, frozen=True):
    """What one chunk brought. `touched` are ids of coins that came or were spent, and txids of
    transfers that began or ceased to wait; `rewound` anchors were undone."""

    progress: ScanProgress
    anchors: int
    rewound: int
    touched: tuple[bytes, ...]
    more: bool


class Scanner:
    """Reads the chain into a wallet's store. One owner, one thread at a time.

    `hashes` maps the hashes of watched hash-time-locks to the lock of one that has it.
    """

    def __init__(
        self,
        store: WalletStore,
        network: Network,
        recogniser: Recogniser,
        *,
        birth: int,
        hashes: Mapping[bytes, bytes],
    ) -> None:
        self._store = store
        self._network = network
        self._recogniser = recogniser
        self._birth = birth
        self._hashes = hashes
        self._touched: list[bytes] = []
        self._recent: RecentTransfers | None = None

    def progress(self, view: Reader) -> ScanProgress:
        """Return how far the wallet is."""
        last = self._store.last_anchor()
        return ScanProgress(
            self._birth - 1 if last is None else last[0],
            _tip_height(view),
            self._store.number(_RESCAN_FROM),
            self._store.number(RESCAN_NEXT),
        )

    def rescan(self, height: int) -> None:
        """Read again from a height on, beside following the chain; what reads again already and
        comes there yet goes on as it is, or what lies below would be left out."""
        with self._store.transaction():
            running = self._store.number(RESCAN_NEXT)
            if running is not None and running <= height:
                return
            self._store.put_number(_RESCAN_FROM, max(height, 0))
            self._store.put_number(RESCAN_NEXT, max(height, 0))

    def cancel_rescan(self) -> None:
        """Give up reading again. What it has found stays."""
        if self._store.number(RESCAN_NEXT) is not None:
            self._end_rescan()

    def _end_rescan(self) -> None:
        with self._store.transaction():
            self._store.put_number(_RESCAN_FROM, None)
            self._store.put_number(RESCAN_NEXT, None)
            # what waits was read before these coins, and those of further accounts, were known
            self._store.put_number(_EVENTS, None)
            self._store.work_out_invoices()

    def advance(self, view: Reader, recent: RecentTransfers | None = None) -> ScanStep:
        """Take in one chunk of what the wallet has not seen of a snapshot; what is among the
        `recent` is not decoded again.

        Raises `StoreDamagedError`, and a `StoreError` of the chain's store; nothing is half done.
        """
        self._touched = []
        self._recent = recent
        store = self._store
        with store.transaction():
            rewound = self._rewind(view)
            last = store.last_anchor()
            tip_height = _tip_height(view)
            first = self._birth if last is None else last[0] + 1
            anchors = self._read(view, first, tip_height, follow=True)
            done = first + anchors > tip_height
            if done and not anchors:
                anchors = self._read_again(view, tip_height)
            if done:
                self._read_mempool(view)
            if rewound or self._touched:
                store.settle()
        progress = self.progress(view)
        return ScanStep(
            progress,
            anchors,
            rewound,
            tuple(self._touched),
            progress.height < tip_height or progress.rescan_next is not None,
        )

    # The main chain

    def _rewind(self, view: Reader) -> int:
        last = self._store.last_anchor()
        if last is None or schema.HEIGHT.get(view, last[0]) == last[1]:
            return 0
        fork = next(
            (
                height
                for height, anchor_id in self._store.anchors_down()
                if schema.HEIGHT.get(view, height) == anchor_id
            ),
            self._birth - 1,
        )
        self._store.rewind(fork)
        again = self._store.number(RESCAN_NEXT)
        if again is not None and again > fork:
            self._store.put_number(RESCAN_NEXT, max(fork + 1, 0))
        return last[0] - fork

    def _read_again(self, view: Reader, tip_height: int) -> int:
        first = self._store.number(RESCAN_NEXT)
        if first is None:
            return 0
        anchors = self._read(view, first, tip_height, follow=False)
        if first + anchors > tip_height:
            self._end_rescan()
        else:
            self._store.put_number(RESCAN_NEXT, first + anchors)
        return anchors

    def _read(self, view: Reader, first: int, tip_height: int, *, follow: bool) -> int:
        """Take in anchors from a height on, up to a chunk's worth; return how many. What is not
        read to `follow` the chain is read again, once all of it was read."""
        anchors: list[tuple[int, bytes]] = []
        found: list[FoundCoin] = []
        listed: list[tuple[SizedTransfer, int | None, int]] = []
        items = 0
        for height in range(first, tip_height + 1):
            if items >= CHUNK_ITEMS or len(anchors) >= CHUNK_ANCHORS:
                break
            anchor_id, anchor, body = _anchor_at(view, height)
            anchors.append((height, anchor_id))
            if height == 0:
                continue
            found += self._minted(view, anchor, body)
            items += 1 + len(body.fresh) + len(body.uncles)
            for sized in self._transfers(view, body.transfers):
                listed.append((sized, height, anchor.header.time))
                items += 1 + len(sized.raw) // OUTPUT_BYTES
        transfers: list[tuple[TransferFinds, int, int]] = []
        for (_, at, time_ms), finds in zip(listed, self._recogniser.transfers(listed), strict=True):
            assert at is not None, "of an anchor"
            found += finds.found
            transfers.append((finds, at, time_ms))
            self._learn(finds.preimages)
        if follow:
            keep = self._network.max_reorg + EXTRA_ANCHORS
            changed = self._store.connect(anchors, found, transfers, keep=keep)
        else:
            last = first + len(anchors) - 1
            changed = self._compare(view, (first, last, tip_height), found, transfers)
        self._touched += [coin.coin_id for coin in found] + changed
        return len(anchors)

    def _compare(
        self,
        view: Reader,
        heights: tuple[int, int, int],
        found: Sequence[FoundCoin],
        transfers: Sequence[tuple[TransferFinds, int, int]],
    ) -> list[bytes]:
        """Take in what anchors hold that are read again, `heights` being those of the first and the
        last of them and that of the tip; return what stands otherwise. What spends a coin of theirs
        may have been read before the coin was known, so the chain's own record says whether it is
        spent."""
        first, last, tip_height = heights
        histories = schema.HISTORY.get_many(view, [coin.coin_id for coin in found])
        spent: dict[bytes, tuple[int, bytes]] = {
            coin.coin_id: (history.spent_height, history.spent_by)
            for coin, history in zip(found, histories, strict=True)
            if history is not None and history.spent_by
        }
        changed = self._store.read_again(
            first or None, last if last < tip_height else None, found, spent, transfers
        )
        listed = {finds.txid for finds, _, _ in transfers}
        later = {spent[coin_id][1] for coin_id in changed if coin_id in spent} - listed
        for txid in sorted(later):
            self._note_spender(view, txid)
        return changed

    def _note_spender(self, view: Reader, txid: bytes) -> None:
        """Note what the history tells of a transfer above what is read again."""
        place = schema.TXID.get(view, txid)
        if place is None:
            raise schema.TXID.corrupt(schema.TXID.key(txid), "no place of what spends a coin")
        _, anchor, _ = _anchor_at(view, place.height)
        for sized in self._transfers(view, (place.wid,)):
            finds = self._recogniser.transfer(sized, place.height, anchor.header.time)
            self._store.put_transfer(finds, anchor.header.time)

    def _transfers(self, view: Reader, wids: Sequence[bytes]) -> Iterator[SizedTransfer]:
        """Yield those of some transfers that are there, in order."""
        recent = {wid: sized for wid in wids if (sized := self._recent_one(wid)) is not None}
        stored = [wid for wid in wids if wid not in recent]
        raws = dict(zip(stored, schema.TRANSFER.get_many(view, stored), strict=True))
        for wid in wids:
            raw = raws.get(wid)
            if wid in recent:
                yield recent[wid]
            elif raw is not None:
                yield SizedTransfer.from_stored(raw, Wid(wid))

    def _recent_one(self, wid: bytes) -> SizedTransfer | None:
        proven = None if self._recent is None else self._recent.proven_transfer(Wid(wid))
        return None if proven is None else proven.sized

    def _minted(self, view: Reader, anchor: Coin, body: Body) -> list[FoundCoin]:
        listed = schema.COIN.get_many(view, (*body.fresh, *body.uncles))
        raws = [anchor.raw, *(raw for raw in listed if raw is not None)]
        found = self._recogniser.minted(raws, anchor.height, anchor.header.time)
        # what a coin mints depends on how late it came: the chain has worked that out
        worth = schema.HISTORY.get_many(view, [coin.coin_id for coin in found])
        return [
            msgspec.structs.replace(coin, value=history.value, index=history.index)
            for coin, history in zip(found, worth, strict=True)
            if history is not None
        ]

    def _learn(self, preimages: Iterable[bytes]) -> None:
        for preimage in preimages:
            lock = self._hashes.get(hashlib.sha256(preimage).digest())
            if lock is not None:
                self._store.put_preimage(lock, preimage)
                self._touched.append(lock)

    # The mempool

    def _read_mempool(self, view: Reader) -> None:
        store = self._store
        cursor = store.number(_EVENTS)
        end = schema.meta_number(view, schema.META_NEXT_EVENT) or 0
        if cursor == end:
            return
        if cursor is None or not cursor < end <= cursor + MAX_EVENTS:
            store.clear_waiting()
            rows = sorted(schema.MEMPOOL.scan(view), key=lambda row: row[1].arrival)
            wids = [wid for wid, _ in rows]
        else:
            events = (event for _, event in schema.EVENT.scan(view, cursor, end - 1))
            wids = [
                event.wid for event in events if isinstance(event, TransferEntered | TransferLeft)
            ]
        if not wids and cursor is not None and end < cursor + QUIET_EVENTS:
            return
        # parents before children, so that a coin is known before it is spent
        for wid in dict.fromkeys(wids):
            self._note_waiting(view, wid)
        store.put_number(_EVENTS, end)

    def _note_waiting(self, view: Reader, wid: bytes) -> None:
        entry = schema.MEMPOOL.get(view, wid)
        sized = None if entry is None else next(self._transfers(view, (wid,)), None)
        if entry is None or sized is None:
            if self._store.set_waiting(wid, None):
                self._touched.append(wid)
            return
        finds = self._recogniser.transfer(sized, None, entry.added_ms)
        self._learn(finds.preimages)
        if self._store.set_waiting(wid, finds, entry.added_ms):
            self._touched.append(finds.txid)


def _tip_height(view: Reader) -> int:
    tip = schema.meta_id(view, schema.META_TIP)
    record = None if tip is None else schema.ANCHOR.get(view, tip)
    return 0 if record is None else Coin.from_bytes(record.coin).height


def _anchor_at(view: Reader, height: int) -> tuple[bytes, Coin, Body]:
    anchor_id = schema.HEIGHT.get(view, height)
    record = None if anchor_id is None else schema.ANCHOR.get(view, anchor_id)
    if anchor_id is None or record is None:
        raise schema.HEIGHT.corrupt(schema.HEIGHT.key(height), "no anchor below the tip")
    return anchor_id, Coin.from_bytes(record.coin), Body.from_bytes(record.body)
