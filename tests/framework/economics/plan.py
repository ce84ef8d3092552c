"""What docs/consensus-simulation.md shows: the recorded runs, each with its seed."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tests.framework.economics.shared import Parameters


class Row(NamedTuple):
    """One run of an experiment. Its place in the list has no meaning."""

    name: str
    parameters: Parameters
    seed: int = 1


_HOARDS: Final[dict[str, Any]] = {"alone": -8.0, "show": 3.0, "lists": "first", "hoards": True}
"""The best thresholds found of a miner that keeps its anchors back, of a third and more."""

_STAKES: Final[dict[str, Any]] = {
    "alone": -6.0,
    "show": 3.0,
    "give_up": 3.0,
    "lists": "fresh",
    "hoards": True,
    "stakes": 0.375,
    "worth": 1.0,
}
"""The best found of one whose thresholds grow with what it has at stake, of 40 %."""

PLAN: Final[tuple[Row, ...]] = (
    Row("honest", Parameters(30_000, delay=0.001, miners=16)),
    Row("honest", Parameters(8_000, delay=0.01, miners=16)),
    Row("honest", Parameters(3_000, delay=0.05, miners=16)),
    Row("honest", Parameters(5_000, delay=0.001, miners=16, zipf=True)),
    Row("honest", Parameters(5_000, delay=0.01, miners=16, zipf=True)),
    Row("honest", Parameters(3_000, delay=0.05, miners=16, zipf=True)),
    *(
        Row("honest", Parameters(4_000, delay=0.01, miners=16, verification=each))
        for each in (0.0001, 0.001, 0.005)
    ),
    Row("honest", Parameters(600, delay=0.005, miners=48, neighbours=6)),
    *(
        Row("honest", Parameters(600, delay=0.005, miners=48, neighbours=6, verification=each))
        for each in (0.0001, 0.001, 0.005)
    ),
    *(
        Row("withholding", Parameters(size, share=share))
        for share, size in ((0.1, 6_000), (0.2, 3_000), (0.25, 3_000), (0.33, 3_000), (0.4, 3_000))
    ),
    *(Row("withholding", Parameters(1_000, share=share, **_HOARDS)) for share in (0.25, 0.33, 0.4)),
    *(
        Row("withholding", Parameters(500, share=share, retarget=True, **_HOARDS))
        for share in (0.33, 0.4)
    ),
    *(
        Row("withholding", Parameters(800, share=share, delay=0.0, **_HOARDS | {"show": 2.0}))
        for share in (0.33, 0.4)
    ),
    *(
        Row("withholding", Parameters(size, share=share, delay=delay, **_STAKES | other))
        for size, delay, show in ((1_500, 0.01, 3.0), (1_000, 0.0, 2.0))
        for share, other in (
            (0.33, {"show": show, "alone": -3.0}),
            (0.4, {"show": show}),
        )
    ),
    Row("withholding", Parameters(400, share=0.25, attackers=2, **_HOARDS)),
    *(
        Row("withholding", Parameters(1_000, share=share, late_bodies=True, **_HOARDS))
        for share in (0.33, 0.4)
    ),
    *(
        Row("withholding", Parameters(1_000, share=share, verification=each, **_HOARDS))
        for share in (0.33, 0.4)
        for each in (0.001, 0.005)
    ),
    Row(
        "withholding",
        Parameters(1_000, share=0.4, verification=0.005, **_HOARDS | {"show": 8.0}),
    ),
    *(
        Row("withholding", Parameters(2_000, share=0.25, verification=0.001, spam=16, lists=lists))
        for lists in ("all", "own")
    ),
    *(
        Row("withholding", Parameters(1_000, share=share, verification=0.001, spam=16, **_HOARDS))
        for share in (0.33, 0.4)
    ),
    *(
        Row("withholding", Parameters(size, share=share, answers=True))
        for share, size in ((0.1, 2_000), (0.25, 2_000), (0.4, 2_000))
    ),
    Row("dead", Parameters(2_000, share=0.1)),
    *(
        Row("dead", Parameters(600, share=share, retarget=moves))
        for moves in (False, True)
        for share in (0.25, 0.4)
    ),
    Row("race", Parameters(2_000, share=0.25, delay=0.0, leans=True)),
    Row("race", Parameters(2_500, share=0.25, leans=True)),
    Row("race", Parameters(2_500, share=0.33, leans=True)),
    Row("race", Parameters(2_000, share=0.25, leans=True, returns=True)),
    Row("race", Parameters(1_200, share=0.33, leans=True, returns=True)),
    Row("race", Parameters(600, share=0.25, leans=True, returns=True, ripe=64)),
    *(
        Row("race", Parameters(size, share=share, leans=True, bait=True))
        for share, size in ((0.1, 1_500), (0.25, 1_000), (0.33, 600))
    ),
    Row("race", Parameters(800, share=0.25, leans=True, bait=True, ripe=64)),
    Row("race", Parameters(4_000, share=0.25, leans=True, bait=True, discounts=True)),
    *(
        Row("race", Parameters(300, share=0.25, score=score))
        for score in ("longest", "included", "ghost")
    ),
    *(
        Row("balance", Parameters(size, share=0.25, leans=True, patience=20.0, halves=apart))
        for apart, size in ((False, 6_000), (True, 8_000))
    ),
    Row("balance", Parameters(6_000, share=0.25, leans=True, patience=20.0, discounts=True)),
    *(Row("cut", Parameters(20, miners=16, length=length)) for length in (8.0, 16.0, 32.0)),
    *(
        Row(name, Parameters(24, share=0.25, miners=16, length=length))
        for name in ("bomb", "juggle")
        for length in (8.0, 32.0)
    ),
    Row("snipe", Parameters(1_500, share=0.25, patience=0.0)),
    Row("snipe", Parameters(1_000, share=0.25, patience=0.0, hoards=True)),
    Row(
        "snipe",
        Parameters(500, share=0.25, patience=4.0, give_up=8.0, hoards=True, pool=1_000.0),
    ),
)
"""Everything that `scripts/attack --record` runs, for docs/data/consensus-simulation.json."""

SMALL: Final[tuple[Row, ...]] = (
    Row("honest", Parameters(40, delay=0.05, miners=6)),
    Row("honest", Parameters(20, delay=0.01, miners=12, neighbours=3)),
    Row("honest", Parameters(20, delay=0.01, miners=12, neighbours=3, verification=0.005)),
    Row("withholding", Parameters(40, share=0.4, **_HOARDS)),
    Row("withholding", Parameters(40, share=0.4, rival=4.0, **_STAKES)),
    Row("withholding", Parameters(40, share=0.4, late_bodies=True, **_HOARDS)),
    Row("withholding", Parameters(40, share=0.4, answers=True)),
    Row("withholding", Parameters(40, share=0.4, verification=0.005, **_HOARDS)),
    Row("withholding", Parameters(40, share=0.4, verification=0.005, late_bodies=True, **_HOARDS)),
    Row("withholding", Parameters(40, share=0.4, verification=0.002, spam=16, **_HOARDS)),
    Row("dead", Parameters(40, share=0.4)),
    Row("dead", Parameters(40, share=0.4, retarget=True)),
    Row("race", Parameters(12, share=0.33, leans=True)),
    Row("race", Parameters(12, share=0.33, leans=True, returns=True, ripe=16)),
    Row("race", Parameters(12, share=0.33, leans=True, bait=True)),
    Row("race", Parameters(12, share=0.33, leans=True, bait=True, discounts=True)),
    *(
        Row("race", Parameters(4, share=0.33, score=one))
        for one in ("longest", "included", "ghost")
    ),
    Row("balance", Parameters(12, share=0.4, leans=True)),
    Row("balance", Parameters(12, share=0.4, leans=True, halves=True)),
    Row("balance", Parameters(12, share=0.4, leans=True, discounts=True)),
    Row("cut", Parameters(2, miners=6)),
    Row("bomb", Parameters(2, share=0.25, miners=6)),
    Row("juggle", Parameters(2, share=0.25, miners=6, patience=4.0)),
    Row("snipe", Parameters(12, share=0.25, patience=0.0)),
    Row("snipe", Parameters(6, share=0.4, patience=2.0, give_up=4.0, hoards=True, pool=40.0)),
)
"""Runs of a moment, one of each policy: a test asks that they give what is recorded."""
