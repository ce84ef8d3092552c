"""What a node counts follows from what it knows, what its clock shows and what its operator has set
aside (Protocol §6), whatever it has been through: clocks that step back and forth, anchors set
aside and taken back, restarts, bodies that came long after their coins."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.framework.chains import Feeder, open_core, shuffled, zero_ms
from tests.framework.forge import Forge
from tests.framework.trees import RandomTree
from unchained.node.chain.core import ChainCore
from unchained.node.chain.tree import AnchorStatus
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId
from unchained.storage.memory import MemoryDisk, MemoryStore

CLOCKED = msgspec.structs.replace(REG, future_limit_ms=1_500)
"""REG with a limit of the order of a tree's times: an epoch has 1,000 ms."""
STEPS = 120

Counted = tuple[dict[CoinId, set[CoinId]], dict[CoinId, int]]


def counted(core: ChainCore) -> Counted:
    """Return the votes of each anchor that counts, and the scores."""
    votes = {
        node.id: set(node.bound)
        for node in core.tree.nodes.values()
        if node.status is AnchorStatus.COUNTS
    }
    return votes, core.tree.scores()


class Life:
    """A node that is given a tree in disorder."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tree = RandomTree(Forge(CLOCKED), random.Random(seed), broken=0.12, depth=5)
        self.tree.grow(30)
        self.items = shuffled(self.rng, [*self.tree.coins.values(), *self.tree.anchors[1:]])
        self.latest_ms = max(anchor.time for anchor in self.tree.anchors)
        self.first_ms = self.tree.forge.genesis.time
        self.disk = MemoryDisk()
        self.now_ms = self.first_ms
        self.left_aside: set[CoinId] = set()
        self.put_aside = 0
        self.core = open_core(MemoryStore(self.disk), CLOCKED, zero_ms, self.now_ms)

    def step(self) -> None:
        kind = self.rng.choice(["give"] * 8 + ["clock"] * 3 + ["aside", "back", "restart"])
        getattr(self, kind)()

    def give(self) -> None:
        feeder = Feeder(self.core, self.now_ms)
        for item in self.rng.sample(self.items, min(20, len(self.items))):
            feeder.submit(item)

    def clock(self) -> None:
        self.set_clock(self.rng.randint(self.first_ms - 2_000, self.latest_ms))

    def set_clock(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.core.note_clock(now_ms)

    def aside(self) -> None:
        anchors = sorted(set(self.core.tree.nodes) - {self.core.tree.root.id})
        if anchors:
            anchor_id = self.rng.choice(anchors)
            assert self.core.set_aside(anchor_id) == (anchor_id not in self.left_aside)
            self.left_aside.add(anchor_id)
            self.put_aside += 1

    def back(self) -> None:
        if self.left_aside:
            anchor_id = self.rng.choice(sorted(self.left_aside))
            assert self.core.take_back(anchor_id)
            self.left_aside.discard(anchor_id)

    def restart(self) -> None:
        self.core = open_core(MemoryStore(self.disk), CLOCKED, zero_ms, self.now_ms)

    def settle(self) -> None:
        """Give it all that it lacks, at a time at which all of it may count."""
        self.set_clock(self.latest_ms + CLOCKED.future_limit_ms)
        Feeder(self.core, self.now_ms).submit_all(self.items)


@pytest.mark.parametrize("seed", range(16))
def test_what_counts_follows_from_what_is_known(seed: int) -> None:
    life = Life(seed)
    for _ in range(STEPS):
        life.step()
    life.settle()
    fresh = open_core(MemoryStore(), CLOCKED, zero_ms, life.now_ms)
    Feeder(fresh, life.now_ms).submit_all(life.items)
    for anchor_id in sorted(life.left_aside):
        fresh.set_aside(anchor_id)
    for _ in range(2):
        assert counted(life.core) == counted(fresh)
        assert life.core.tip.id == fresh.tip.id
        assert life.core.ledger.state_root() == fresh.ledger.state_root()
        # And the same without what the operator did.
        for anchor_id in sorted(life.left_aside):
            assert life.core.take_back(anchor_id)
            assert fresh.take_back(anchor_id)
        life.left_aside.clear()


@pytest.mark.parametrize("seed", range(16))
def test_a_restart_changes_nothing_that_counts(seed: int) -> None:
    life = Life(100 + seed)
    for at in range(STEPS):
        life.step()
        if at % 10 == 9:
            # A chain that is ahead of the clock stays as it is.
            before, tip = counted(life.core), life.core.tip.id
            life.restart()
            assert life.core.tip.id == tip
            assert counted(life.core) == before


def test_the_lives_have_been_through_something() -> None:
    life = Life(7)
    for _ in range(STEPS):
        life.step()
    assert life.put_aside >= 2
