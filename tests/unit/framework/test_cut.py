"""Who votes for both branches of a cut network."""

from __future__ import annotations

import pytest

from tests.framework.economics.cut import Bomber
from tests.framework.economics.experiments import halves_of
from tests.framework.economics.shared import Parameters

HALVES = Parameters(1, share=0.25, miners=6, length=8.0)


def cut(seed: int, mode: str) -> tuple[Bomber, float]:
    """Return who attacks a network that is about to be whole again, and when it is."""
    world, bomber, epoch = halves_of(HALVES, seed, mode)
    assert bomber is not None
    end = HALVES.length * epoch
    world.run(lambda: world.now < end)
    whole = end + 2 * HALVES.delay * epoch
    world.run(lambda: world.now < whole)
    return bomber, epoch


@pytest.mark.parametrize("mode", ["bomb", "juggle"])
@pytest.mark.parametrize("seed", range(8))
def test_the_halves_part_also_where_the_attacker_finds_the_first_anchor(
    seed: int, mode: str
) -> None:
    bomber, _ = cut(seed, mode)
    # What it has found before the halves parted it kept to itself.
    assert bomber.public.tree.root is bomber.fork
    bomber.arm()
    assert len(bomber.fork.children) == 2
    assert len(bomber.secret) == 2


@pytest.mark.parametrize("seed", range(4))
def test_once_the_network_is_whole_it_votes_on_for_the_branch_that_has_fewer_of_its_votes(
    seed: int,
) -> None:
    bomber, epoch = cut(seed, "juggle")
    bomber.patience = float("inf")
    bomber.arm()
    poorer, richer = sorted(bomber.rivals, key=lambda one: len(bomber.secret[one.id]))
    had = len(bomber.secret[richer.id])
    del bomber.secret[poorer.id][:]
    end = bomber.world.now + 32 * epoch
    bomber.world.run(lambda: bomber.world.now < end and len(bomber.secret[poorer.id]) < had)
    assert [len(bomber.secret[one.id]) for one in (poorer, richer)] == [had, had]
    assert bomber.turns == 0
