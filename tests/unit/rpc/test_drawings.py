"""What is drawn stays in its box, and says what it is given."""

from __future__ import annotations

import math
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from unchained.node.rpc.web.drawings import bars, intervals, over_time, plot, ring, steps
from unchained.node.rpc.web.views import lost_branches


def coin(luck: float = 1.0, kind: str = "fresh") -> dict[str, Any]:
    return {"id": "00" * 32, "luck": luck, "kind": kind}


def numbers(path: str) -> list[float]:
    return [float(text) for text in re.findall(r"-?[0-9]+(?:\.[0-9]+)?", path)]


def test_the_ring_has_a_piece_for_each_coin_and_goes_round_again() -> None:
    pieces = ring([coin()] * 5, 4)
    assert len(pieces) == 5
    assert len({piece.path for piece in pieces}) == 5
    assert pieces[0].path.split("A")[1].startswith("84 84")
    assert pieces[4].path.split("A")[1].startswith("69 69")
    assert len(ring([coin()] * 100, 4)) == 12


def test_a_luckier_coin_is_drawn_wider_within_bounds() -> None:
    widths = [piece.width for piece in ring([coin(1), coin(4), coin(2.0**200)], 4)]
    assert widths == sorted(widths)
    assert widths[0] < widths[1]
    assert widths[-1] <= 12


def test_one_place_on_the_ring_is_drawn_too() -> None:
    (piece,) = ring([coin()], 1)
    assert " 0 1 1 " in piece.path


@given(
    st.lists(
        st.tuples(st.floats(0, 1e12, allow_nan=False), st.floats(0, 1e30, allow_nan=False)),
        max_size=50,
    )
)
def test_a_curve_lies_in_its_box(points: list[tuple[float, float]]) -> None:
    drawn = plot(points, 640, 160)
    if len(points) < 2:
        assert drawn is None
        return
    assert drawn is not None
    places = [float(part) for pair in drawn.line[1:].split("L") for part in pair.split()]
    assert all(-0.5 <= x <= 640.5 for x in places[::2])
    assert all(-0.5 <= y <= 160.5 for y in places[1::2])
    assert drawn.area.endswith("Z")


def test_steps_are_as_wide_as_what_they_stand_for() -> None:
    drawn = steps([(10, 4), (30, 2)], 400, 100)
    assert drawn is not None
    assert [float(pair.split()[0]) for pair in drawn.line[1:].split("L")] == [0, 100, 100, 400]
    assert drawn.high == 4
    assert steps([]) is None


def test_intervals_fall_into_bars_beside_the_exponential() -> None:
    drawn = intervals([1_000, 1_500, 100_000], 1_000, bins=4)
    assert drawn is not None
    assert [bar.count for bar in drawn.bars] == [0, 2, 0, 1]
    expected = [float(pair.split()[1]) for pair in drawn.expected[1:].split("L")]
    assert expected == sorted(expected)[:3] + expected[3:]
    assert intervals([], 1_000) is None
    heights = [drawn.height - y for y in expected[:3]]
    assert math.isclose(heights[1] / heights[0], math.exp(-1), rel_tol=0.02)


def test_what_was_not_measured_is_no_point() -> None:
    times = [60_000, 120_000, 180_000]
    assert over_time(times, [1.0, None, 3.0]) == [(0.0, 1.0), (2.0, 3.0)]
    assert over_time([], []) == []


def test_bars_stand_side_by_side_and_as_high_as_they_count() -> None:
    found = bars([(1, 4), (2, 0), (3, 2)], 800, 112)
    assert [bar.label for bar in found] == ["1", "2", "3"]
    assert [bar.height for bar in found] == [100, 0, 50]
    assert [bar.x for bar in found] == [2, 102, 202]
    assert bars([]) == []


def test_branches_that_lost_are_counted_by_their_length_without_gaps() -> None:
    ends = [
        {"status": "main", "length": 0},
        {"status": "side", "length": 1},
        {"status": "side", "length": 3},
        {"status": "dead", "length": 1},
    ]
    assert lost_branches(ends) == [[1, 2], [2, 0], [3, 1]]
    assert lost_branches(ends[:1]) == []
