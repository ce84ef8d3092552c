"""Addresses whose peers had no place for us."""

from __future__ import annotations

import random

import pytest

from unchained.node.peers.turned_away import (
    FIRST_WAIT_S,
    LONGEST_WAIT_FOR_OWN_S,
    LONGEST_WAIT_S,
    TURNED_AWAY_MAX,
    TurnedAway,
)


def turned_away() -> TurnedAway:
    return TurnedAway(random.Random(1))


def test_an_address_waits_longer_each_time() -> None:
    them, now = turned_away(), 0.0
    for wait_s in (FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S):
        them.note("a", now, is_own=False)
        assert them.is_waiting("a", now + wait_s / 2 - 0.01)
        assert not them.is_waiting("a", now + wait_s)
        now += wait_s
    assert not them.is_waiting("b", now)


@pytest.mark.parametrize(
    ("is_own", "longest_s"), [(False, LONGEST_WAIT_S), (True, LONGEST_WAIT_FOR_OWN_S)]
)
def test_no_address_waits_for_ever(is_own: bool, longest_s: float) -> None:
    them = turned_away()
    for _ in range(2_000):
        them.note("a", 0.0, is_own=is_own)
    assert them.is_waiting("a", longest_s / 2 - 0.01)
    assert not them.is_waiting("a", longest_s)


def test_who_had_a_place_begins_anew() -> None:
    them = turned_away()
    for _ in range(10):
        them.note("a", 0.0, is_own=False)
    them.forget("a")
    assert not them.is_waiting("a", 0.0)
    them.note("a", 0.0, is_own=False)
    assert not them.is_waiting("a", FIRST_WAIT_S)


def test_those_of_longest_ago_are_forgotten() -> None:
    them = turned_away()
    for number in range(TURNED_AWAY_MAX + 1):
        them.note(str(number), 0.0, is_own=False)
    assert not them.is_waiting("0", 0.0)
    assert them.is_waiting("1", 0.0)
