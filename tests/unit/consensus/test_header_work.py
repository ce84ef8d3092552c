from __future__ import annotations

from itertools import pairwise

from unchained.node.consensus.header_work import HeaderTargets, anchor_work, count_asked_for
from unchained.node.consensus.params import REG, work

DEEP = REG.window + 1
FULL = 1_000_000
"""A target; its double is half of its work."""


def branch(*targets: int) -> list[HeaderTargets]:
    """Return anchors of such targets, and of children of the last one's."""
    return [HeaderTargets(*pair) for pair in pairwise(targets)]


def work_of(*targets: int) -> int:
    return sum(anchor_work(target, REG) for target in targets)


def test_a_header_shows_the_work_of_its_epoch() -> None:
    assert anchor_work(REG.target0, REG) == 4 * work(REG.target0)


def test_what_leaves_the_chain_near_the_tip_is_asked_for() -> None:
    weak = branch(*(FULL * 10,) * 4)
    assert count_asked_for(weak, 0, [FULL] * 10, 10**9, REG.window, REG) == 3
    assert count_asked_for(weak, 0, [FULL] * 10, 10**9, DEEP, REG) == 0


def test_a_quarter_of_the_work_is_enough() -> None:
    weak = branch(*(FULL * 10,) * 4)
    assert count_asked_for(weak, 25, [FULL] * 10, 100, DEEP, REG) == 3
    assert count_asked_for(weak, 24, [FULL] * 10, 100, DEEP, REG) == 0


def test_targets_of_at_most_twice_the_main_chains_are_enough() -> None:
    main = [FULL, FULL, 3 * FULL, *(FULL,) * 20]

    def asked(*targets: int) -> int:
        return count_asked_for(branch(*targets), 0, main, 100, DEEP, REG)

    assert asked(FULL, 2 * FULL, 6 * FULL, 2 * FULL) == 3
    # The first target that is more, the last one's children's included, ends it.
    assert asked(FULL, 2 * FULL, 6 * FULL, 2 * FULL + 1) == 2
    assert asked(FULL, 2 * FULL, 6 * FULL + 1, 2 * FULL) == 1
    assert asked(2 * FULL + 1, FULL, FULL) == 0
    assert asked(FULL) == 0


def test_a_branch_that_outgrows_the_main_chain_has_work_enough() -> None:
    """The rule of the targets needs no word on heights that the main chain does not have."""
    for length in (1, 2, 40):
        main = [FULL] * length
        twice = [2 * FULL] * (length + 5)
        assert 4 * work_of(*twice) >= work_of(*main)
        found = count_asked_for(
            branch(*twice, 2 * FULL), work_of(*twice), [*main, FULL], work_of(*main), DEEP, REG
        )
        assert found == length + 5
