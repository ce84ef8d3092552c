from __future__ import annotations

import random
from itertools import pairwise

import pytest

from unchained.node.peers.lost_peers import (
    FIRST_REDIAL_S,
    LASTED_S,
    LATE_REDIAL_S,
    LONGEST_REDIAL_S,
    LOOKED_FOR_S,
    LOST_PEERS_MAX,
    LOST_RECENTLY_S,
    LostPeers,
    is_loss,
)
from unchained.node.transport.contract import DisconnectReason


def moments(lost: LostPeers, until: float) -> dict[str, list[float]]:
    """Return when each address is dialled from time 0 on, in vain."""
    found: dict[str, list[float]] = {}
    now = 0.0
    while (now := now + lost.wait_s(now, 60.0)) <= until:
        while (text := lost.take_due(now)) is not None:
            found.setdefault(text, []).append(now)
    return found


def test_a_lost_peer_is_dialled_soon_and_never_left_alone_for_long() -> None:
    lost = LostPeers(random.Random(1))
    lost.note("a", 0.0)
    times = moments(lost, 3 * LOST_RECENTLY_S)["a"]
    assert times[0] <= FIRST_REDIAL_S
    gaps = [later - earlier for earlier, later in pairwise(times)]
    soon = [gap for at, gap in zip(times, gaps, strict=False) if at <= LOST_RECENTLY_S]
    late = [gap for at, gap in zip(times, gaps, strict=False) if at > LOST_RECENTLY_S]
    assert max(soon) <= LONGEST_REDIAL_S
    assert min(soon[6:]) >= LONGEST_REDIAL_S / 2
    assert min(late) >= LATE_REDIAL_S / 2
    assert max(late) <= LATE_REDIAL_S


def test_peers_that_were_lost_at_one_moment_are_not_all_dialled_at_one_moment() -> None:
    lost = LostPeers(random.Random(2))
    for name in "abcdefgh":
        lost.note(name, 0.0)
    times = moments(lost, 600.0)
    assert len({round(found[-1], 1) for found in times.values()}) == len(times) == 8


def test_who_is_there_again_and_who_was_gone_for_a_day_is_not_looked_for() -> None:
    lost = LostPeers(random.Random(3))
    lost.note("a", 0.0)
    lost.note("b", 0.0)
    lost.found("a")
    assert set(moments(lost, 600.0)) == {"b"}
    assert lost.take_due(LOOKED_FOR_S + 1) is None
    assert "b" not in lost
    assert lost.wait_s(LOOKED_FOR_S + 1, 5.0) == 5.0


def test_none_that_is_due_late_makes_others_wait_for_longer() -> None:
    lost = LostPeers(random.Random(5))
    lost.note("a", 0.0)
    moments(lost, LOST_RECENTLY_S + 2 * LATE_REDIAL_S)
    now = LOST_RECENTLY_S + 2 * LATE_REDIAL_S
    assert lost.wait_s(now, 1e9) > 5.0
    assert lost.wait_s(now, 5.0) == 5.0


def test_those_lost_last_are_looked_for_where_there_are_many() -> None:
    lost = LostPeers(random.Random(4))
    for number in range(LOST_PEERS_MAX + 3):
        lost.note(str(number), float(number))
    assert [str(number) in lost for number in (0, 2, 3, LOST_PEERS_MAX + 2)] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("reason", "lasted_s", "was_silent", "is_own", "lost"),
    [
        (DisconnectReason.DEAD, 1.0, False, False, True),
        (DisconnectReason.LOCAL, 1.0, True, False, True),
        (DisconnectReason.LOCAL, LASTED_S, False, True, False),
        (DisconnectReason.REMOTE, 10 * LASTED_S, False, False, False),
        (DisconnectReason.REMOTE, LASTED_S, False, True, True),
        (DisconnectReason.REMOTE, LASTED_S - 1, False, True, False),
        (DisconnectReason.MISBEHAVED, LASTED_S, False, True, False),
    ],
)
def test_who_closes_its_link_is_not_lost_unless_the_operator_named_it(
    reason: DisconnectReason, lasted_s: float, was_silent: bool, is_own: bool, lost: bool
) -> None:
    assert is_loss(reason, lasted_s, was_silent=was_silent, is_own=is_own) is lost


def test_who_was_visited_is_visited_again_from_time_to_time_for_a_day() -> None:
    lost = LostPeers(random.Random(5))
    lost.visited("nobody", 0.0)
    assert "nobody" not in lost
    lost.note("a", 0.0)
    now, visits = 0.0, 0
    while "a" in lost:
        now += lost.wait_s(now, 60.0)
        if lost.take_due(now) is None:
            continue
        visits += 1
        began, now = now, now + 120.0
        lost.visited("a", now)
        assert LATE_REDIAL_S / 2 <= lost.wait_s(now, 1e9) <= LATE_REDIAL_S
        assert began <= LOOKED_FOR_S
    assert visits >= LOOKED_FOR_S / (LATE_REDIAL_S + 120.0)
