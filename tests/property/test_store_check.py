"""What a chain with forks, uncles and transfers writes is sound, and nothing of it is derivable
otherwise than it stands."""

from __future__ import annotations

import random

import pytest

from tests.framework.chains import Feeder, open_core, shuffled
from tests.framework.forge import Forge
from tests.framework.trees import RandomTree
from unchained.node.consensus.params import REG
from unchained.storage.check import check
from unchained.storage.memory import MemoryStore
from unchained.storage.rebuild import rebuild


@pytest.mark.parametrize("seed", range(6))
def test_chain_is_sound_and_rebuilds_to_itself(seed: int) -> None:
    rng = random.Random(seed)
    forge = Forge(REG)
    tree = RandomTree(forge, rng, broken=0)
    tree.grow(100)
    store = MemoryStore()
    feeder = Feeder(open_core(store, REG), forge.now_ms)
    items = [*tree.coins.values(), *tree.anchors[1:]]
    feeder.submit_all(shuffled(rng, items), lambda: None)
    report = check(store, REG)
    assert report.problems == ()
    assert report.entries["history"] > 0
    before = list(store.items())
    done = rebuild(store, REG)
    assert (done.put, done.deleted) == (0, 0)
    assert list(store.items()) == before
