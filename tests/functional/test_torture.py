"""A little of `scripts/torture`, on one pair of nodes: a few kills under load, and each kind of
damage once, each to another kind of file. `scripts/torture` does it for nights."""

from __future__ import annotations

import random

import pytest

from tests.framework.torture.damage import STORE_FILES, WAYS, DamagePart
from tests.framework.torture.kills import KillPart
from tests.framework.torture.report import PartReport, Shown
from tests.framework.torture.world import World, world

ANCHORS = 12
KILLS = 2

pytestmark = pytest.mark.slow


def seeded(part: str) -> PartReport:
    report = PartReport(part, random.randrange(2**31))
    print(f"{part}: scripts/torture {part} --seed {report.seed}")
    return report


def test_kills_and_damage_lose_nothing() -> None:
    kills, damage = seeded("kill"), seeded("damage")
    with world(kills.seed, forks=True) as it:
        it.begin(ANCHORS)
        KillPart(it, kills, Shown(kills.part, KILLS)).run(KILLS)
        assert kills.failures == []
        assert kills.counts["kills"] == KILLS
        _damage(it, damage)
    print(kills.counts, damage.counts)


def _damage(it: World, report: PartReport) -> None:
    part = DamagePart(it, report, in_process=True)
    part.prepare()
    ways = random.Random(report.seed).sample(sorted(WAYS), len(WAYS))
    cases = [f"{way} {kind}" for way, kind in zip(ways, STORE_FILES, strict=True)]
    cases += ["delete all tables", "delete db"]
    part.run(cases, Shown(report.part, len(cases)))
    assert report.failures == []
    assert report.counts["rounds"] == len(cases)
    # Without its tables a store has nothing left to be put right in place.
    assert report.counts["made anew"] >= 1
    assert report.counts["anchors from peers"] >= ANCHORS
