"""Transfers that wait to be included: the mempool, and what of it is on disk (Protocol §8.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from unchained.node.chain.ledger import Ledger
from unchained.node.chain.mempool.job_transfers import JobTransfers
from unchained.node.chain.mempool.mempool import Mempool, PoolEntry, Reason, Shown
from unchained.node.chain.results import Outcome
from unchained.node.chain.transfer_memory import TransferMemory
from unchained.node.chain.tree import AnchorTree
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import FeeTooLowError
from unchained.node.consensus.transfers import (
    ProvenTransfer,
    ValidatedTransfer,
    check_transfer_alone,
    decode_transfer,
    validate_transfer,
)
from unchained.node.primitives.transfer import SizedTransfer, output_id, wid_of
from unchained.node.primitives.types import CoinId, Txid, Wid
from unchained.storage import schema
from unchained.storage.kv import KeyValueStore
from unchained.storage.schema import MempoolRecord, TransferEntered, TransferLeft

UNDONE_BYTES: Final = 64 << 20
"""Bytes of undone transfers that are kept to wait again: as many as the mempool holds."""


class WaitingTransfers:
    """The mempool and its rows on disk. What changes is in the ledger's batch, not yet written."""

    def __init__(
        self,
        store: KeyValueStore,
        network: Network,
        ledger: Ledger,
        tree: AnchorTree,
        memory: TransferMemory,
    ) -> None:
        self._store = store
        self._network = network
        self._ledger = ledger
        self._tree = tree
        self._memory = memory
        self.mempool = Mempool(network, ledger, self)
        self.jobs = JobTransfers()

    def validated(self, wid: Wid) -> ValidatedTransfer:
        """Return what a stored transfer is found to be."""
        proven = self._memory.proven(wid)
        if proven is not None:
            return ValidatedTransfer.of(proven)
        raw = schema.TRANSFER.get(self._ledger.view, wid)
        assert raw is not None, f"transfer {wid.hex()} is gone"
        verdict = self._memory.verdict(wid)
        if verdict is not None and verdict.alone is None:
            return ValidatedTransfer(SizedTransfer.from_stored(raw, wid), verdict, len(raw))
        found = validate_transfer(raw, self._network, wid)
        self._memory.remember(wid, found)
        return found

    def decoded(self, wid: Wid) -> SizedTransfer:
        """Return a stored transfer that was found good before it was stored."""
        sized = self.validated(wid).sized
        assert sized is not None, "it was found good"
        return sized

    def check_bytes(
        self, raw: bytes, now_ms: int, shown: Shown = frozenset()
    ) -> SizedTransfer | Outcome:
        """Decode a transfer and check it as `check` does; return it if it may enter. What is known
        is looked at no further than to see that. Raises a `PolicyError` or a `TransferError`."""
        wid = wid_of(raw)
        if self.mempool.get(wid) is not None:
            return Outcome.KNOWN
        sized = decode_transfer(raw, wid)
        place = schema.TXID.get(self._ledger.view, sized.txid)
        if place is not None and place.wid == wid:
            return Outcome.KNOWN
        check_transfer_alone(sized.transfer, self._network)
        checked = self.check(sized, now_ms, shown)
        return checked if isinstance(checked, Outcome) else sized

    def check(
        self, sized: SizedTransfer, now_ms: int, shown: Shown = frozenset()
    ) -> Outcome | list[PoolEntry]:
        """Check a transfer for the mempool by all but its witness, as if of the hidden transfers
        only those `shown` to its sender were here.

        Returns the entries that it would replace if it may enter. Raises a `PolicyError` or a
        `TransferError`.
        """
        unseen = self.mempool.unseen_by(shown)
        # Protocol §8.4: a known txid is ignored
        known = self.mempool.by_txid(sized.txid)
        if known is not None and (known.wid == sized.wid or known.wid not in unseen):
            return Outcome.KNOWN
        if schema.TXID.get(self._ledger.view, sized.txid) is not None:
            return Outcome.KNOWN
        return self.mempool.check(sized, self._tree.tip.height + 1, now_ms, unseen)

    def submit(
        self,
        proven: ProvenTransfer,
        now_ms: int,
        *,
        hidden: bool = False,
        shown: Shown = frozenset(),
    ) -> Outcome:
        """Take in a transfer (Protocol §8.4), `hidden` from peers or not, of a sender to whom these
        of the hidden ones were `shown`. One that a body lists is not hidden; one that is hidden
        already is taken in if it is not to be so any more.

        Raises a `PolicyError` or a `TransferError`.
        """
        sized = proven.sized
        checked = self.check(sized, now_ms, shown)
        if isinstance(checked, Outcome):
            return Outcome.ACCEPTED if not hidden and self.mempool.reveal(sized.wid) else checked
        self._ledger.batch.put(schema.TRANSFER.key(sized.wid), sized.raw)
        self._ledger.log(TransferEntered(sized.wid))
        entry = self.mempool.add(sized, checked, now_ms)
        if entry is None:
            raise FeeTooLowError(
                expected=f"more than {self.mempool.min_fee_rate(now_ms):.3f} grains per byte",
                actual=f"{sized.transfer.fee / sized.size:.3f}",
            )
        self._note_entered(entry)
        # Whoever has a body that lists it asks for its bytes.
        if hidden and not self._tree.is_listed_aside(entry.wid):
            self.mempool.hidden.add(entry.wid)
        return Outcome.ACCEPTED

    def load(self) -> None:
        """Validate the transfers that waited when the store was last written: after opening."""
        rows = sorted(schema.MEMPOOL.scan(self._store), key=lambda row: row[1].arrival)
        waiting = []
        for wid, record in rows:
            if self.mempool.get(Wid(wid)) is not None:
                continue  # undone by the reorganisation that opening finished
            self._ledger.batch.delete(schema.MEMPOOL.key(wid))
            found = self.validated(Wid(wid))
            if found.is_good:
                waiting.append(_Restorable(record.added_ms, found.proven().sized, None))
        self._restore(waiting)

    def forget_undone(self, sized: SizedTransfer) -> None:
        """Let a transfer go that was undone and would not have found room."""
        self._forget(sized.wid, sized.txid, Reason.EVICTED)

    def is_stored(self, wid: Wid) -> bool:
        """Return whether a transfer's bytes are in the store, as those of all that wait are."""
        if self.mempool.get(wid) is not None:
            return True
        return schema.TRANSFER.get(self._ledger.view, wid) is not None

    def rebuild(self, undone: UndoneTransfers) -> None:
        """Let the transfers that a reorganisation undid wait again, before all others, and check
        those anew for which it can make a difference: what spends coins that the undone anchors
        created, and where the chain has become shorter, coins that are immature again or what is
        locked again."""
        height = self._tree.tip.height + 1
        is_lower = height < undone.height_before + 1
        coins = {*undone.created, *(self._immature_since(undone.height_before) if is_lower else ())}
        taken = self.mempool.take_out(coins, height if is_lower else None)
        once = undone.in_order()
        places = self.mempool.reserve_places(len(once))
        time_ms = self._tree.tip.coin.header.time
        waiting = [_Restorable(time_ms, sized, next(places)) for sized in once]
        waiting += [
            _Restorable(entry.added_ms, self.decoded(entry.wid), entry.arrival) for entry in taken
        ]
        self._restore(waiting)

    def _immature_since(self, height_before: int) -> Iterator[CoinId]:
        """Yield the minted coins of this chain that could be spent when it was as high as that."""
        lowest = self._tree.tip.height + 2 - self._network.maturity
        for height in range(lowest, height_before + 2 - self._network.maturity):
            node = self._tree.main_at(height)
            if node is not None:
                body = node.validated.body
                yield from map(CoinId, (node.id, *body.fresh, *body.uncles))

    def _restore(self, waiting: Sequence[_Restorable]) -> None:
        """Let transfers that were waiting wait on, in whatever order they come; those that cannot
        any more leave."""
        while True:
            left = [one for one in waiting if not self._restore_one(one)]
            if len(left) == len(waiting):
                break
            waiting = left
        for one in left:
            self._forget(one.sized.wid, one.sized.txid, Reason.INVALID)

    def _restore_one(self, one: _Restorable) -> bool:
        """Return whether it is settled what becomes of a transfer: not while it lacks a parent."""
        sized = one.sized
        if schema.TXID.get(self._ledger.view, sized.txid) is not None:
            self._forget(sized.wid, sized.txid, Reason.INCLUDED)
            return True
        twin = self.mempool.by_txid(sized.txid)
        if twin is not None:
            # Disconnected twice, or signed twice and disconnected from two branches.
            if twin.wid != sized.wid:
                self._forget(sized.wid, sized.txid, Reason.CONFLICT)
            return True
        height = self._tree.tip.height + 1
        try:
            entry = self.mempool.restore(one.added_ms, sized, height, one.arrival)
        except ProtocolError:
            return False
        if entry is not None:
            self._note_entered(entry)
        return True

    def _note_entered(self, entry: PoolEntry) -> None:
        record = MempoolRecord(entry.arrival, entry.added_ms, entry.fee, entry.size)
        self._ledger.batch.put(schema.MEMPOOL.key(entry.wid), schema.MEMPOOL.encode(record))

    def note_left(self, entry: PoolEntry, reason: Reason) -> None:
        """Take the rows of an entry that has left the mempool off the disk."""
        self._forget(entry.wid, entry.txid, reason)

    def _forget(self, wid: Wid, txid: Txid, reason: Reason) -> None:
        self.mempool.hidden.discard(wid)
        self._ledger.batch.delete(schema.MEMPOOL.key(wid))
        if not self._is_listed(wid, txid):
            if self.jobs.is_listed(wid):
                raw = schema.TRANSFER.get(self._ledger.view, wid)
                if raw is not None:
                    self.jobs.keep(wid, raw)
            self._ledger.batch.delete(schema.TRANSFER.key(wid))
        self._ledger.log(TransferLeft(wid, reason))

    def _is_listed(self, wid: Wid, txid: Txid) -> bool:
        """Return whether an anchor lists the transfer, on any branch: its bytes are needed."""
        place = schema.TXID.get(self._ledger.view, txid)
        if place is not None and place.wid == wid:
            return True
        return self._tree.is_listed_aside(wid)


class _Restorable(msgspec.Struct, frozen=True, gc=False):
    """A transfer that waited, or was undone: when it first entered, and its place if it has one."""

    added_ms: int
    sized: SizedTransfer
    arrival: int | None


class UndoneTransfers:
    """The transfers that a reorganisation undoes, in order of height: at most `UNDONE_BYTES` of
    the lowest, on which the others may build. `created` are the coins that are gone with them and
    with what the anchors minted, `height_before` is that of the tip before."""

    def __init__(self, waiting: WaitingTransfers, height_before: int) -> None:
        self._waiting = waiting
        self.height_before = height_before
        self.created: set[CoinId] = set()
        self._size = 0
        self._by_wid: OrderedDict[Wid, SizedTransfer] = OrderedDict()

    def add(self, transfers: Sequence[SizedTransfer], minted: Iterable[CoinId]) -> None:
        """Take in those of the next lower anchor, and what it minted."""
        self.created.update(minted)
        for sized in transfers:
            outputs = range(len(sized.transfer.outputs))
            self.created.update(output_id(sized.txid, index) for index in outputs)
        for sized in reversed(transfers):
            if sized.wid not in self._by_wid:
                self._by_wid[sized.wid] = sized
                self._by_wid.move_to_end(sized.wid, last=False)
                self._size += len(sized.raw)
        while self._size > UNDONE_BYTES:
            _, highest = self._by_wid.popitem()
            self._size -= len(highest.raw)
            self._waiting.forget_undone(highest)

    def in_order(self) -> list[SizedTransfer]:
        """Return what is to wait again, the lowest first."""
        return list(self._by_wid.values())
