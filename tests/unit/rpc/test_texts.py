"""Values are written as people read them."""

from __future__ import annotations

import pytest

from unchained.node.rpc.web import texts


@pytest.mark.parametrize(
    ("given", "said"),
    [("1.50000000", "1.5"), ("1234567.00000000", "1,234,567"), ("0.00000001", "0.00000001")],
)
def test_amounts(given: str, said: str) -> None:
    assert texts.unc(given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (-5, "0 ms"),
        (999, "999 ms"),
        (1_250, "1.2 s"),
        (61_000, "1 min 1 s"),
        (60_000, "1 min"),
        (3_600_000, "1 h"),
        (90_061_000, "1 d 1 h"),
    ],
)
def test_lengths_of_time(given: int, said: str) -> None:
    assert texts.span(given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0, "0"),
        (0.666, "0.666"),
        (999, "999"),
        (999_999, "1 M"),
        (1_234, "1.23 k"),
        (5_600_000, "5.6 M"),
        (1e40, "1e+16 Y"),
    ],
)
def test_great_numbers(given: float, said: str) -> None:
    assert texts.large(given) == said


def test_times_that_no_calendar_has_are_shown_as_numbers() -> None:
    assert texts.clock(0) == "1970-01-01 00:00:00 UTC"
    assert texts.clock(2**63 - 1) == f"{2**63 - 1} ms"
    assert texts.iso(2**63 - 1) == ""


def test_bytes_and_hashes() -> None:
    assert [texts.size_of(count) for count in (5, 2_048, 3 << 20)] == ["5 B", "2.0 KiB", "3.0 MiB"]
    assert texts.short_hash("ab" * 32) == "abababa…ababab"
    assert texts.short_hash("short") == "short"
