"""A chain core on a disk of its own, and the forge that feeds it."""

from __future__ import annotations

import msgspec

from tests.framework.chains import (
    accept,
    open_core,
    replay_events,
    submit_coin,
    tree_of,
)
from tests.framework.forge import Forge, Forged
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Outcome
from unchained.node.chain.tree import AnchorMark
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId
from unchained.storage.kv import KeyValueStore
from unchained.storage.memory import MemoryDisk, MemoryStore

SHALLOW = msgspec.structs.replace(REG, max_reorg=4, window=3)


class Chain:
    """A core on a disk of its own, and the forge that feeds it."""

    def __init__(self, network: Network = REG) -> None:
        self.forge = Forge(network)
        self.disk = MemoryDisk()
        self.ran_ms = 0
        self.step_ms = 1_000
        """How much running time goes by whenever it is looked at."""
        self.core = self._open()

    def _running_ms(self) -> int:
        self.ran_ms += self.step_ms
        return self.ran_ms

    def _open(self) -> ChainCore:
        return open_core(self.store(), self.forge.network, self._running_ms)

    def store(self) -> KeyValueStore:
        """Return a store on the disk."""
        return MemoryStore(self.disk)

    def restart(self) -> None:
        """Open the store again: the tree is as it was."""
        before = tree_of(self.core), self.core.tip.id
        self.core = self._open()
        assert (tree_of(self.core), self.core.tip.id) == before

    @property
    def genesis(self) -> Forged:
        """Where all chains begin."""
        return self.forge.genesis

    @property
    def now_ms(self) -> int:
        """A time at which nothing is too new, ms."""
        return self.forge.now_ms

    def coin(self, coin: Coin) -> Outcome:
        """Submit a coin. Raises a `ProtocolError`."""
        return submit_coin(self.core, coin, self.now_ms)

    def vote(self, anchor: Forged, count: int = 1) -> list[Coin]:
        """Submit coins bound to an anchor."""
        coins = [self.forge.coin(anchor) for _ in range(count)]
        for coin in coins:
            assert self.coin(coin) is Outcome.ACCEPTED
        return coins

    def is_dead(self, anchor: Forged) -> bool:
        """Return whether an anchor has failed when it was connected."""
        return AnchorMark.DEAD in self.core.tree.nodes[anchor.id].marks

    def vote_until_dead(self, dead: Forged, anchor: Forged | None = None) -> None:
        """Vote for an anchor, or one above it, until it has won and was found dead."""
        for _ in range(50):
            if self.is_dead(dead):
                return
            self.vote(anchor or dead)
        raise AssertionError("never found dead")

    def vote_until_tip(self, anchor: Forged) -> None:
        """Vote for an anchor until it is the tip."""
        for _ in range(50):
            if self.core.tip.id == anchor.id:
                return
            self.vote(anchor)
        raise AssertionError("never the tip")

    def take(self, *anchors: Forged) -> Forged:
        """Submit anchors, coins and bodies; return the last."""
        for anchor in anchors:
            accept(self.core, anchor, self.now_ms)
        return anchors[-1]

    def grow(self, parent: Forged, count: int) -> Forged:
        """Submit so many empty anchors on top of one; return the last."""
        for _ in range(count):
            parent = self.take(self.forge.anchor(parent))
        return parent

    def add_transfer(self, sized: SizedTransfer) -> Outcome:
        """Submit a transfer to the mempool."""
        return self.core.submit_transfer(ProvenTransfer(sized), self.now_ms)

    def pay(self, coin_id: CoinId, value: int, *, fee: int = 20_000, to: int = 1) -> SizedTransfer:
        """Return a transfer of one coin of key 0."""
        return self.forge.transfer([(coin_id, 0)], [(value - fee, to)], fee=fee)

    def waiting(self) -> set[bytes]:
        """Return the wids in the mempool."""
        return {entry.wid for entry in self.core.mempool}

    def events_fit(self) -> None:
        """Compare tip and mempool with what the event log alone says."""
        main, _, waiting = replay_events(self.core.store, self.genesis.id)
        assert main[-1] == self.core.tip.id
        assert waiting == self.waiting()
