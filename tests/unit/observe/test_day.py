"""A node's memory of its last day: what is kept, how much room it takes, what may be asked."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
import trio

from tests.framework.observed import observer_of
from tests.framework.simulation.simnet import simulate
from unchained.node.base.runner import InlineRunner
from unchained.node.observe.day import MINUTES_KEPT, PERIOD_S, Day
from unchained.node.observe.series_table import SERIES
from unchained.node.rpc.core.errors import InvalidParamsError
from unchained.node.rpc.methods.series import SeriesRoom

ROOM_MAX = 4_000_000


def test_names_are_told_apart() -> None:
    names = [series.name for series in SERIES]
    assert len(set(names)) == len(names)
    assert 55 <= len(names) <= 70


async def test_a_minute_gives_a_value_of_each_series() -> None:
    async with simulate(7) as net:
        (node,) = await net.grow(1)
        day = Day(observer_of(node), InlineRunner())
        with trio.move_on_after(PERIOD_S * 4 + 1):
            await day.run()
        found = day.found(["height", "anchors", "epoch", "hashrate"], 0)
        assert len(found.times) == 5
        steps = {after - before for before, after in itertools.pairwise(found.times)}
        assert steps == {int(PERIOD_S * 1000)}
        heights = found.values["height"]
        assert heights == sorted(heights)
        assert heights[-1] == node.height > heights[0]
        # A rate is what came since the value before: the first one has none.
        assert found.values["anchors"][0] is None
        for place in range(1, 5):
            rate = found.values["anchors"][place]
            assert rate is not None
            assert rate * PERIOD_S == pytest.approx(heights[place] - heights[place - 1])
        # It has no miner of its own processes.
        assert found.values["hashrate"] == [None] * 5
        assert any(value is not None and value > 0 for value in found.values["epoch"])


async def test_a_day_is_kept_in_the_room_that_it_may_take_and_no_more() -> None:
    async with simulate(8) as net:
        node = net.node()
        await node.start()
        day = Day(observer_of(node), InlineRunner())
        for _ in range(MINUTES_KEPT + 10):
            await day.sample()
            await trio.sleep(PERIOD_S)
        assert day.size <= ROOM_MAX
        assert day.size >= MINUTES_KEPT * 8 * len(SERIES)
        found = day.found(["tip_age"], 0)
        assert len(found.times) == len(found.values["tip_age"]) == MINUTES_KEPT
        assert found.times == sorted(found.times)
        # The oldest ten are gone: what is left begins ten minutes after the first.
        ages = [age for age in found.values["tip_age"] if age is not None]
        assert ages == sorted(ages)
        half = day.found(["tip_age"], found.times[MINUTES_KEPT // 2])
        assert half.times == found.times[MINUTES_KEPT // 2 :]
        assert half.values["tip_age"] == found.values["tip_age"][MINUTES_KEPT // 2 :]


async def test_what_is_asked_for_has_to_be_known() -> None:
    async with simulate(9) as net:
        node = net.node()
        await node.start()
        day = Day(observer_of(node), InlineRunner())
        await day.sample()
        room = SeriesRoom(day)
        known = await room.series_names()
        assert set(known) == {series.name for series in SERIES}
        found = await room.series(list(known)[:100])
        encoded = msgspec.json.decode(msgspec.json.encode(found))
        assert encoded["period_ms"] == 60_000
        assert not any(
            isinstance(value, float) and math.isnan(value)
            for values in encoded["values"].values()
            for value in values
        )
        with pytest.raises(InvalidParamsError, match='did you mean "height"'):
            await room.series(["heigth"])
