"""Transfers that wait for an anchor: the relay policy of Protocol §8.4.

Only names, fees and links are kept in memory; the bytes are in the store's transfer table. The
mempool itself writes nothing: its owner hears of every entry that enters or leaves.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

import msgspec

from unchained.node.consensus.errors import CoinSpentError
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import (
    CAPACITY,
    EXPIRY_MS,
    OUTPUTS_MAX,
    check_ancestors,
    check_descendants,
    check_dust,
    check_fee_rate,
    check_replacement,
    min_fee_rate,
    raised_rate,
)
from unchained.node.consensus.transfers import (
    CoinSetView,
    UnspentCoin,
    check_transfer_in_context,
)
from unchained.node.primitives.transfer import SizedTransfer, output_id
from unchained.node.primitives.types import CoinId, Lock, Txid, Wid

FIRST_ARRIVAL: Final = 1 << 40
"""Arrivals count up from here, and down for what a reorganisation lets wait again."""


Shown = AbstractSet[Wid] | None
"""The hidden transfers that somebody knows to be here; None: all of them."""
SHOWN_TO_NOBODY: Final[Shown] = frozenset()
"""What counts for a peer that asks, or is asked: what it is told must not differ by what another
has handed in."""


class Reason(enum.IntEnum):
    """Why a transfer left the mempool. The numbers are in the event log."""

    INCLUDED = 1
    CONFLICT = 2
    REPLACED = 3
    EVICTED = 4
    EXPIRED = 5
    INVALID = 6


class PoolEntry(msgspec.Struct, gc=False):
    """One waiting transfer. `fee` in grains, `size` as fee rates count it, `raw_size` encoded."""

    wid: Wid
    txid: Txid
    fee: int
    size: int
    raw_size: int
    inputs: tuple[CoinId, ...]
    outputs: tuple[tuple[int, Lock], ...]
    arrival: int
    added_ms: int
    parents: set[Wid]
    children: set[Wid]
    lock_height: int

    @property
    def rate(self) -> float:
        """Grains per byte, for ordering and display only."""
        return self.fee / self.size


class MempoolStatistics(msgspec.Struct, frozen=True):
    """`bytes` encoded, of at most `capacity`; `min_fee_rate` in grains per byte of size; `fees` in
    grains."""

    transfers: int
    bytes: int
    fees: int
    min_fee_rate: float
    capacity: int = CAPACITY


class MempoolOwner(Protocol):
    """Who keeps the transfers' bytes: the mempool itself writes nothing."""

    def note_left(self, entry: PoolEntry, reason: Reason) -> None:
        """Take note of an entry that has left the mempool."""


class Mempool:
    """Waiting transfers, free of conflicts among themselves and with the chain.

    `owner` hears of each entry that leaves. One owner, one thread at a time.
    """

    def __init__(
        self,
        network: Network,
        chain: CoinSetView,
        owner: MempoolOwner,
        *,
        capacity: int = CAPACITY,
    ) -> None:
        self._network = network
        self._chain = chain
        self._owner = owner
        self._capacity = capacity
        self._entries: dict[Wid, PoolEntry] = {}
        self._by_txid: dict[Txid, Wid] = {}
        self._spender: dict[CoinId, Wid] = {}
        self.hidden: set[Wid] = set()
        """Those that peers are not to learn of from here yet (Protocol §11: `stem`)."""
        self._outputs: dict[CoinId, tuple[Wid, int]] = {}
        self._bytes = 0
        self._fees = 0
        self._first_arrival = self._next_arrival = FIRST_ARRIVAL
        self._raised_rate = 0.0
        self._raised_ms = 0

    # Reading

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[PoolEntry]:
        return iter(self._entries.values())

    def get(self, wid: Wid) -> PoolEntry | None:
        """Return the entry of a wid."""
        return self._entries.get(wid)

    def by_txid(self, txid: Txid) -> PoolEntry | None:
        """Return the entry of a txid."""
        wid = self._by_txid.get(txid)
        return None if wid is None else self._entries[wid]

    def spender_of(self, coin_id: CoinId) -> PoolEntry | None:
        """Return the entry that spends a coin."""
        wid = self._spender.get(coin_id)
        return None if wid is None else self._entries[wid]

    def min_fee_rate(self, now_ms: int) -> float:
        """Return the grains per byte of size that a transfer must pay at least."""
        return min_fee_rate(self._raised_rate, now_ms - self._raised_ms)

    def statistics(self, now_ms: int) -> MempoolStatistics:
        """Return how full the mempool is."""
        return MempoolStatistics(
            len(self._entries), self._bytes, self._fees, self.min_fee_rate(now_ms), self._capacity
        )

    # Entering

    def unseen_by(self, shown: Shown) -> AbstractSet[Wid]:
        """Return what is hidden from who was shown these."""
        return frozenset() if shown is None else self.hidden - shown

    def check(
        self,
        sized: SizedTransfer,
        height: int,
        now_ms: int,
        unseen: AbstractSet[Wid] = frozenset(),
    ) -> list[PoolEntry]:
        """Check all but the witness, for an anchor at `height`; return what would be replaced.

        What is `unseen` by the sender is as if it were not here, so that nobody can tell that it
        is: nothing builds on it, and what conflicts with it replaces it, as it would take its place
        elsewhere.

        Raises a `PolicyError`, or the `TransferError` that the chain and the mempool give.
        """
        check_dust(sized)
        check_fee_rate(sized.transfer.fee, sized.size, self.min_fee_rate(now_ms))
        conflicts = self._conflicts(sized)
        evicted = self._with_descendants(conflicts)
        absent = {entry.wid for entry in evicted} | unseen
        view = _MempoolCoins(self, self._chain, absent, height)
        check_transfer_in_context(sized.transfer, view, height, self._network)
        self._check_links(sized, absent)
        replaced = [entry for entry in conflicts if entry.wid not in unseen]
        if replaced:
            leaving = [entry for entry in evicted if entry.wid not in unseen]
            check_replacement(sized.transfer.fee, sized.size, replaced, leaving)
        return evicted

    def _conflicts(self, sized: SizedTransfer) -> list[PoolEntry]:
        found: dict[Wid, PoolEntry] = {}
        for entry in sized.transfer.inputs:
            wid = self._spender.get(CoinId(entry.coin_id))
            if wid is not None:
                found[wid] = self._entries[wid]
        return list(found.values())

    def _check_links(self, sized: SizedTransfer, absent: AbstractSet[Wid]) -> None:
        ancestors = self._walk(self._parents_of(sized), lambda entry: entry.parents)
        check_ancestors(len(ancestors))
        for ancestor in ancestors:
            descendants = self._walk(ancestor.children, lambda entry: entry.children)
            check_descendants(sum(entry.wid not in absent for entry in descendants) + 1)

    def add(
        self,
        sized: SizedTransfer,
        evicted: Iterable[PoolEntry],
        now_ms: int,
        arrival: int | None = None,
    ) -> PoolEntry | None:
        """Let a transfer in that passed `check`; return its entry.

        The `evicted` that `check` named leave. It comes after all others, or in the place of an
        earlier `arrival`. None if the mempool is full and everything in it pays more.
        """
        for entry in evicted:
            if entry.wid in self._entries:
                self._remove(entry, Reason.REPLACED)
        transfer = sized.transfer
        parents = self._parents_of(sized)
        if arrival is None or any(self._entries[wid].arrival >= arrival for wid in parents):
            arrival = self._next_arrival
            self._next_arrival += 1
        entry = PoolEntry(
            sized.wid,
            sized.txid,
            transfer.fee,
            sized.size,
            len(sized.raw),
            tuple(CoinId(spent.coin_id) for spent in transfer.inputs),
            tuple((output.value, Lock(output.lock)) for output in transfer.outputs),
            arrival,
            now_ms,
            parents,
            set(),
            transfer.lock_height,
        )
        self._link(entry)
        self._make_room(now_ms)
        return self._entries.get(entry.wid)

    def restore(
        self, added_ms: int, sized: SizedTransfer, height: int, arrival: int | None = None
    ) -> PoolEntry | None:
        """Let a transfer wait again that was here before, whatever it pays.

        `added_ms` is when it first entered, `arrival` its place. None if there was no room. Raises
        a `TransferError` if it cannot be included at `height`.
        """
        for conflict in self._conflicts(sized):
            raise CoinSpentError(expected="a coin that nothing spends", actual=conflict.wid.hex())
        view = _MempoolCoins(self, self._chain, set(), height)
        check_transfer_in_context(sized.transfer, view, height, self._network)
        return self.add(sized, (), added_ms, arrival)

    def _parents_of(self, sized: SizedTransfer) -> set[Wid]:
        return {
            self._outputs[CoinId(spent.coin_id)][0]
            for spent in sized.transfer.inputs
            if spent.coin_id in self._outputs
        }

    def _link(self, entry: PoolEntry) -> None:
        self._entries[entry.wid] = entry
        self._by_txid[entry.txid] = entry.wid
        for coin_id in entry.inputs:
            self._spender[coin_id] = entry.wid
        for index in range(len(entry.outputs)):
            self._outputs[output_id(entry.txid, index)] = (entry.wid, index)
        for parent in entry.parents:
            self._entries[parent].children.add(entry.wid)
        self._bytes += entry.raw_size
        self._fees += entry.fee

    def _make_room(self, now_ms: int) -> None:
        while self._bytes > self._capacity or len(self._outputs) > OUTPUTS_MAX:
            # Protocol §8.4: lowest rate evicted first, with descendants
            lowest = min(self._entries.values(), key=lambda entry: entry.rate)
            self._raised_rate = raised_rate(self.min_fee_rate(now_ms), lowest.rate)
            self._raised_ms = max(self._raised_ms, now_ms)
            for entry in self._with_descendants([lowest]):
                self._remove(entry, Reason.EVICTED)

    def reveal(self, wid: Wid) -> bool:
        """Let peers learn of a transfer from here; return whether it was hidden from them."""
        if wid not in self.hidden:
            return False
        self.hidden.discard(wid)
        return True

    # Leaving

    def chain_grew(self, transfers: Iterable[SizedTransfer]) -> None:
        """Drop what an anchor included and what conflicts with that."""
        if not self._entries:
            return  # as in sync
        for sized in transfers:
            included = self._by_txid.get(sized.txid)
            if included is not None:
                # Nothing else here spends what it spends.
                self._remove(self._entries[included], Reason.INCLUDED)
                continue
            for entry in self._with_descendants(self._conflicts(sized)):
                self._remove(entry, Reason.CONFLICT)

    def expire(self, now_ms: int) -> None:
        """Drop what has waited for 72 hours, with descendants."""
        old = [entry for entry in self if now_ms - entry.added_ms > EXPIRY_MS]
        for entry in self._with_descendants(old):
            self._remove(entry, Reason.EXPIRED)

    def take_out(self, coins: Iterable[CoinId], height: int | None) -> list[PoolEntry]:
        """Take out what spends any of some coins, with descendants, reporting nothing; return it
        by arrival: to check it anew. With a `height`, also what is locked until after it."""
        first = [wid for coin_id in coins if (wid := self._spender.get(coin_id)) is not None]
        if height is not None:
            first += [entry.wid for entry in self if entry.lock_height > height]
        entries = self._walk(first, lambda entry: entry.children)
        for entry in entries:
            self._unlink(entry)
        return sorted(entries, key=lambda entry: entry.arrival)

    def reserve_places(self, count: int) -> Iterator[int]:
        """Return so many arrivals before all that there are."""
        self._first_arrival -= count
        return iter(range(self._first_arrival, self._first_arrival + count))

    def _remove(self, entry: PoolEntry, reason: Reason) -> None:
        self._unlink(entry)
        self._owner.note_left(entry, reason)

    def _unlink(self, entry: PoolEntry) -> None:
        del self._entries[entry.wid]
        del self._by_txid[entry.txid]
        for coin_id in entry.inputs:
            del self._spender[coin_id]
        for index in range(len(entry.outputs)):
            del self._outputs[output_id(entry.txid, index)]
        for parent in entry.parents:
            if parent in self._entries:
                self._entries[parent].children.discard(entry.wid)
        for child in entry.children:
            if child in self._entries:
                self._entries[child].parents.discard(entry.wid)
        self._bytes -= entry.raw_size
        self._fees -= entry.fee

    # Walking

    def _walk(
        self, start: Iterable[Wid], links: Callable[[PoolEntry], Iterable[Wid]]
    ) -> list[PoolEntry]:
        found: dict[Wid, PoolEntry] = {}
        waiting = list(start)
        while waiting:
            wid = waiting.pop()
            if wid not in found:
                found[wid] = self._entries[wid]
                waiting.extend(links(found[wid]))
        return list(found.values())

    def _with_descendants(self, entries: Iterable[PoolEntry]) -> list[PoolEntry]:
        """Return the entries and all that builds on them, children before their parents."""
        found = self._walk((entry.wid for entry in entries), lambda entry: entry.children)
        return sorted(found, key=lambda entry: -entry.arrival)

    # Choosing

    def select(self, max_size: int) -> list[Wid]:
        """Return transfers for a body of at most `max_size` bytes of size, in order: none that is
        hidden, as a body shows what it lists.

        By the fee rate of each with its waiting ancestors, which go in before it.
        """
        packages = []
        for entry in self._entries.values():
            ancestors = (
                self._walk(entry.parents, lambda step: step.parents) if entry.parents else []
            )
            if any(step.wid in self.hidden for step in (entry, *ancestors)):
                continue
            fee = entry.fee + sum(step.fee for step in ancestors)
            size = entry.size + sum(step.size for step in ancestors)
            packages.append((-fee / size, entry.arrival, entry, ancestors))
        packages.sort(key=lambda package: package[:2])
        chosen: dict[Wid, None] = {}
        room = max_size
        for _, _, entry, ancestors in packages:
            missing = [step for step in (*ancestors, entry) if step.wid not in chosen]
            size = sum(step.size for step in missing)
            if size <= room:
                room -= size
                for step in sorted(missing, key=lambda step: step.arrival):
                    chosen[step.wid] = None
        return list(chosen)

    def output(self, coin_id: CoinId) -> tuple[int, Lock, Wid] | None:
        """Return value, lock and maker of a coin that a waiting transfer would create."""
        found = self._outputs.get(coin_id)
        if found is None:
            return None
        value, lock = self._entries[found[0]].outputs[found[1]]
        return value, lock, found[0]


class _MempoolCoins:
    """The coin set with the mempool's transfers applied, but for some that do not count."""

    def __init__(
        self, mempool: Mempool, chain: CoinSetView, absent: AbstractSet[Wid], height: int
    ) -> None:
        self._mempool = mempool
        self._chain = chain
        self._absent = absent
        self._height = height

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        """Return the coin if the chain or a waiting transfer has created it."""
        found = self._mempool.output(coin_id)
        if found is None:
            return self._chain.unspent(coin_id)
        value, lock, maker = found
        return None if maker in self._absent else UnspentCoin(value, lock, self._height, False)

    def was_spent(self, coin_id: CoinId) -> bool:
        """Return whether the chain has spent the coin."""
        return self._chain.was_spent(coin_id)
