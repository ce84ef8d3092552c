"""What pauses the workers, and what changes a running miner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing

from unchained.miner.errors import (
    BadAffinityError,
    BadCpuCapError,
    BadNiceError,
    BadWorkerCountError,
    SettingError,
)
from unchained.miner.machine import Sensors, Usage, usable_cpus
from unchained.miner.pool import BY_HAND, MiningPool
from unchained.node.base.config import MiningConfig
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import InlineRunner
from unchained.node.consensus.params import LOCAL
from unchained.node.mining.control import (
    BATTERY,
    CALM_POLLS,
    INPUT,
    LOAD,
    MACHINE_POLL_S,
    ControlChanges,
    MiningControl,
    PauseRules,
    Readings,
    ThisMachine,
    reasons_to_pause,
)

ALL_RULES = PauseRules(on_battery=True, above_load=50, after_input_s=60)


class Machine:
    """A machine whose state the test sets; its two cores' time passes with Trio's clock."""

    def __init__(self) -> None:
        self.battery: bool | None = None
        self.load = 0.0
        self.input_s: float | None = None
        self._total = self._busy = 0.0
        self._at = 0.0

    def read(self) -> Readings:
        passed = 2 * (trio.current_time() - self._at)
        self._at = trio.current_time()
        self._total += passed
        self._busy += passed * self.load
        usage = Usage(self._total, self._busy, 0.0)
        return Readings(self.battery, usage, self.input_s, Sensors(None, None, None))


@dataclass(frozen=True)
class Found:
    coins_found: int


@dataclass(frozen=True)
class Status:
    """As much of a `ChainStatus` as the control reads."""

    target: int


@asynccontextmanager
async def controlled(
    rules: PauseRules,
) -> AsyncIterator[tuple[Machine, MiningPool, MiningControl]]:
    """Give a control over a pool without workers."""
    machine = Machine()
    pool = MiningPool(workers=2, backend="cryptography")
    config = MiningConfig(
        workers=2,
        pause_on_battery=rules.on_battery,
        pause_above_load=rules.above_load,
        pause_after_input_s=rules.after_input_s,
    )
    control = MiningControl(
        pool,
        LOCAL,
        config,
        status=Watch(Status(LOCAL.target0)),  # type: ignore[arg-type]
        epochs=Found(3),
        runner=InlineRunner(),
        log=structlog.get_logger(),
        machine=machine,
    )
    assert control.statistics().rules == rules
    async with trio.open_nursery() as nursery:
        await nursery.start(control.run)
        await trio.sleep(0.1)
        yield machine, pool, control
        nursery.cancel_scope.cancel()
    assert set(pool.statistics().pauses) <= {BY_HAND}


@pytest.mark.parametrize(
    ("battery", "load", "since_input", "reasons"),
    [
        (None, None, None, set()),
        (False, 0.5, 60.0, set()),
        (True, 0.0, None, {BATTERY}),
        (None, 0.51, None, {LOAD}),
        (None, None, 59.0, {INPUT}),
        (True, 1.0, 0.0, {BATTERY, LOAD, INPUT}),
    ],
)
def test_what_is_not_known_is_no_reason(
    battery: bool | None, load: float | None, since_input: float | None, reasons: set[str]
) -> None:
    assert reasons_to_pause(ALL_RULES, battery, load, since_input) == reasons
    off = PauseRules(on_battery=False)
    assert reasons_to_pause(off, battery, load, since_input) == set()


async def test_battery_pauses_and_mains_resume_at_once() -> None:
    async with controlled(ALL_RULES) as (machine, pool, _control):
        machine.battery = True
        await trio.sleep(MACHINE_POLL_S)
        assert pool.statistics().pauses == (BATTERY,)
        machine.battery = False
        await trio.sleep(MACHINE_POLL_S)
        assert not pool.statistics().paused


@pytest.mark.parametrize("reason", [LOAD, INPUT])
async def test_a_machine_in_use_is_left_alone_until_it_has_been_calm(reason: str) -> None:
    def use(machine: Machine, used: bool) -> None:
        if reason == LOAD:
            machine.load = 0.9 if used else 0.1
        else:
            machine.input_s = 1.0 if used else 100.0

    async with controlled(ALL_RULES) as (machine, pool, _control):
        use(machine, True)
        await trio.sleep(MACHINE_POLL_S)
        assert pool.statistics().pauses == (reason,)
        use(machine, False)
        await trio.sleep(MACHINE_POLL_S * (CALM_POLLS - 2))
        use(machine, True)
        await trio.sleep(MACHINE_POLL_S)
        use(machine, False)
        await trio.sleep(MACHINE_POLL_S * (CALM_POLLS - 1))
        assert pool.statistics().pauses == (reason,)
        await trio.sleep(MACHINE_POLL_S)
        assert not pool.statistics().paused


async def test_a_rule_that_is_lifted_ends_its_pause() -> None:
    async with controlled(ALL_RULES) as (machine, pool, control):
        machine.load = 0.9
        await trio.sleep(2 * MACHINE_POLL_S)
        assert pool.statistics().pauses == (LOAD,)
        assert control.statistics().load == pytest.approx(0.9)
        control.change(ControlChanges(pause_above_load=0))
        await trio.sleep(MACHINE_POLL_S)
        assert not pool.statistics().paused


async def test_a_person_s_pause_and_the_machine_s_stand_side_by_side() -> None:
    async with controlled(ALL_RULES) as (machine, pool, control):
        control.pause()
        machine.battery = True
        await trio.sleep(MACHINE_POLL_S)
        assert pool.statistics().pauses == (BY_HAND, BATTERY)
        machine.battery = False
        await trio.sleep(MACHINE_POLL_S)
        assert pool.statistics().pauses == (BY_HAND,)
        machine.battery = True
        await trio.sleep(MACHINE_POLL_S)
        control.resume()
        assert pool.statistics().pauses == (BATTERY,)
        # One that is in force when the control ends must not outlast it; a person's does.
        control.pause()


async def test_everything_can_be_changed_while_it_runs() -> None:
    async with controlled(ALL_RULES) as (_machine, _pool, control):
        assert not control.statistics().automatic_workers
        assert control.set_workers("auto") >= 1
        assert control.statistics().automatic_workers
        assert control.set_workers(1) == 1
        assert not control.statistics().automatic_workers
        with pytest.raises(BadWorkerCountError):
            control.set_workers(0)
        cpu = usable_cpus()[0]
        control.change(
            ControlChanges(
                workers=3,
                nice=19,
                affinity=(cpu,),
                cpu_cap=40,
                huge_pages=False,
                pause_on_battery=False,
                pause_above_load=30,
                pause_after_input_s=10,
            )
        )
        found = control.pool_statistics()
        assert (found.nice, found.cpu_cap, found.huge_pages, found.affinity) == (
            19, 40, False, (cpu,),
        )  # fmt: skip
        rules = PauseRules(on_battery=False, above_load=30, after_input_s=10)
        assert control.statistics().rules == rules
        control.change(ControlChanges(affinity=()))
        assert control.pool_statistics().affinity is None
        assert control.statistics().rules == rules


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (ControlChanges(cpu_cap=50, workers=0), BadWorkerCountError),
        (ControlChanges(cpu_cap=50, nice=20), BadNiceError),
        (ControlChanges(cpu_cap=50, affinity=(4095,)), BadAffinityError),
        (ControlChanges(workers=1, cpu_cap=0), BadCpuCapError),
    ],
)
async def test_where_one_setting_is_refused_none_is_changed(
    bad: ControlChanges, error: type[SettingError]
) -> None:
    async with controlled(ALL_RULES) as (_machine, _pool, control):
        before = control.pool_statistics()
        with pytest.raises(error):
            control.change(bad)
        after = control.pool_statistics()
        assert (after.cpu_cap, after.nice, after.affinity) == (
            before.cpu_cap, before.nice, before.affinity,
        )  # fmt: skip
        assert not control.statistics().automatic_workers


async def test_with_automatic_workers_their_number_follows_the_cpus() -> None:
    async with controlled(ALL_RULES) as (_machine, pool, control):
        chosen: list[int] = []
        pool.set_workers = chosen.append  # type: ignore[method-assign]
        control.set_workers("auto")
        control.change(ControlChanges(affinity=usable_cpus()[:1]))
        control.set_workers("auto")
        control.change(ControlChanges(affinity=()))
        assert chosen[1:3] == [1, 1]
        assert chosen[0] == chosen[3] >= 1


async def test_hashes_are_worth_what_the_target_of_their_time_makes_them() -> None:
    async with controlled(ALL_RULES) as (_machine, pool, control):
        hashes = 0
        original = pool.statistics

        def statistics() -> Any:
            return msgspec.structs.replace(original(), hashes=hashes)

        pool.statistics = statistics  # type: ignore[method-assign]
        hashes = 8192 * 6
        await trio.sleep(2)
        # Of 2**243 a coin takes 2**13 hashes.
        assert control.statistics().expected == pytest.approx(6)
        advice = control.advice()
        assert advice.luck is not None
        assert (advice.luck.found, advice.luck.expected) == (3, pytest.approx(6))


def test_this_machine_can_be_read() -> None:
    found = ThisMachine().read()
    assert found.usage.total >= found.usage.busy > 0
    assert found.usage.own > 0
