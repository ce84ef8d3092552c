"""Events that strangers cause do not fill the log."""

from __future__ import annotations

from unchained.node.base.line_limits import LINES_BURST, LINES_PER_S, LineLimits


def test_a_minute_of_evictions_is_one_line_and_a_count() -> None:
    limits = LineLimits()
    lines = [limits.admits("peer.evicted", number / 48.6) for number in range(2916)]
    assert sum(lines) == 1
    assert limits.admits("peer.evicted", 60.1)
    assert limits.take_untold("peer.evicted") == 2915
    assert limits.take_untold("peer.evicted") == 0


def test_what_comes_at_once_is_shown_up_to_a_bound() -> None:
    limits = LineLimits()
    for event in ("peer.connected", "net.handler_failed", "rpc.rejected", "rpc.turned_away"):
        lines = [limits.admits(event, number / 100) for number in range(60_000)]
        assert lines[:LINES_BURST] == [True] * LINES_BURST
        assert sum(lines) <= LINES_BURST + 600 * LINES_PER_S


def test_other_events_have_all_their_lines() -> None:
    limits = LineLimits()
    assert all(limits.admits("anchor.connected", 0.0) for _ in range(100_000))


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    limits = LineLimits()
    assert limits.admits("peer.banned", 1e9)
    assert all(limits.admits("peer.banned", 0.0) for _ in range(LINES_BURST - 1))
