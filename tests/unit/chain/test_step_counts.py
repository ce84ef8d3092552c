"""What the writer's steps add up to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from unchained.node.chain.results import Changes
from unchained.node.chain.step_counts import StepCounts


def anchor(height: int, time: int, fresh: int = 0, late: int = 0, stray: int = 0) -> Any:
    coin = SimpleNamespace(
        id=bytes([height]) * 32, height=height, header=SimpleNamespace(time=time)
    )
    return SimpleNamespace(coin=coin, fresh=fresh, late=late, stray=stray, transfers=1)


def test_what_anchors_list_is_added_up_by_kind() -> None:
    counts = StepCounts(8_000, 1_000)
    counts.add(
        [Changes(0, connected=[anchor(2, 5_000, fresh=4, late=1), anchor(3, 9_000, 2, 0, 3)])]
    )
    found = counts.statistics()
    assert (found.connected, found.transfers) == (2, 2)
    assert (found.fresh, found.late, found.stray) == (6, 1, 3)
    assert found.epochs.count == 2
    assert found.epochs.seconds == 8.0


def test_the_time_since_genesis_is_no_interval() -> None:
    counts = StepCounts(8_000, 1_000)
    counts.add([Changes(0, connected=[anchor(1, 900_000_000)])])
    assert counts.statistics().epochs.count == 0


def test_the_deepest_and_the_last_reorganisation_are_remembered() -> None:
    counts = StepCounts(8_000, 1_000)
    for depth in (3, 1):
        undone = [(height, bytes(32)) for height in range(depth)]
        counts.add([Changes(0, disconnected=undone, connected=[anchor(5, 20_000)])])
    found = counts.statistics()
    assert (found.reorgs, found.disconnected) == (2, 4)
    assert (found.deepest_reorg, found.last_reorg) == (3, 1)
    # What lay below the fork is not at hand, so no interval is made up.
    assert found.epochs.count == 0
