"""A chain with a poor upper part that forks far below its tree, and a richer branch beside it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tests.framework.chains import open_core, submit_body, submit_coin
from tests.framework.corechain import Chain
from tests.framework.failing_store import FailingStore
from tests.framework.forge import Forged
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import ReorgRefused
from unchained.node.consensus.params import REG
from unchained.storage.check import check
from unchained.storage.memory import MemoryStore

NETWORK = msgspec.structs.replace(REG, max_reorg=4, window=3)
SETTLED_MS = NETWORK.max_reorg * NETWORK.epoch_ms
FORK = 3
POOR = 12


class Deep(Chain):
    """A chain whose poor upper part forks far below its tree, and a richer branch beside it."""

    def __init__(self, length: int = 5) -> None:
        super().__init__(NETWORK)
        self.step_ms = 0
        self.base = self.grow(self.genesis, FORK)
        self.poor = self.base
        for _ in range(POOR):
            self.poor = self.take(self.forge.anchor(self.poor))
        self.branch = self.rich(length)

    def rich(self, length: int, parent: Forged | None = None) -> list[Forged]:
        """Return anchors above the fork that list four coins each."""
        branch: list[Forged] = []
        step = parent or self.base
        for _ in range(length):
            coins = [self.forge.coin(step) for _ in range(4)]
            step = self.forge.anchor(step, coins)
            branch.append(step)
        return branch

    def lower(self, height: int = FORK) -> None:
        assert self.core.may_undo_from(height)
        while not self.core.lower_root(height):
            pass
        assert self.core.tree.root.height == height

    def rise(self) -> None:
        while not self.core.let_root_rise():
            pass

    def take_branch(self, anchors: Sequence[Forged]) -> None:
        """As sync does: the choice is made once."""
        with self.core.choosing_once():
            for anchor in anchors:
                submit_coin(self.core, anchor.coin, self.now_ms)
                submit_body(self.core, anchor)

    def reopened(self, fail_at: int | None = None) -> ChainCore:
        store = FailingStore(MemoryStore(self.disk), fail_at=fail_at)
        return open_core(store, NETWORK, lambda: self.ran_ms)

    def refused(self) -> ReorgRefused | None:
        return self.core.refused

    def is_full(self) -> bool:
        return self.core.root.is_full

    def main(self) -> list[bytes]:
        heights = range(self.core.tip.height + 1)
        return [self.core.archive.main_id(height) or b"" for height in heights]

    def is_sound(self) -> None:
        assert check(MemoryStore(self.disk), self.forge.network).problems == ()
        self.events_fit()
