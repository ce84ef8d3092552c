"""What governs the miner besides the chain: the machine's state and the person in front of it.

`MiningControl` is the one place where a running miner is changed: a person pauses it, sets
workers, priority, cores, processor time or memory pages through it, and it pauses the workers by
itself on battery power or while the machine is wanted for something else. Every reason to pause
stands by itself: a person's `resume` does not end a pause for the battery's sake, and power that
comes back does not end a person's pause.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeVar

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.miner.advisor import Advice, advise, coin_chance
from unchained.miner.jobs import PoolStatistics
from unchained.miner.machine import (
    Sensors,
    Usage,
    auto_workers,
    on_battery,
    others_load,
    physical_cores,
    read_sensors,
    read_usage,
    since_input_s,
    usable_cpus,
)
from unchained.miner.pool import MiningPool
from unchained.miner.settings import check_affinity, check_cpu_cap, check_nice, check_workers
from unchained.node.base.config import MiningConfig
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import Runner
from unchained.node.chain.status import ChainStatus
from unchained.node.consensus.params import Network

MACHINE_POLL_S: Final = 5.0
"""Seconds between two looks at the machine."""

CALM_POLLS: Final = 6
"""Looks in a row that must find the machine left alone before mining goes on: half a minute."""

BATTERY: Final = "on battery"
LOAD: Final = "machine in use"
INPUT: Final = "someone types"

T = TypeVar("T")


class PauseRules(msgspec.Struct, frozen=True, kw_only=True):
    """When the workers pause by themselves. `above_load` in percent of the machine, `after_input_s`
    in seconds; 0: never."""

    on_battery: bool = True
    above_load: int = 0
    after_input_s: int = 0

    @classmethod
    def of(cls, config: MiningConfig) -> PauseRules:
        """Return the rules that the settings say."""
        return cls(
            on_battery=config.pause_on_battery,
            above_load=config.pause_above_load,
            after_input_s=config.pause_after_input_s,
        )


class ControlChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a running miner that shall change; None: as it is. No `affinity` at all, an
    empty tuple, stands for every CPU. `pause_above_load` in percent, `pause_after_input_s` in
    seconds, 0: never."""

    workers: int | Literal["auto"] | None = None
    nice: int | None = None
    affinity: tuple[int, ...] | None = None
    cpu_cap: int | None = None
    huge_pages: bool | None = None
    pause_on_battery: bool | None = None
    pause_above_load: int | None = None
    pause_after_input_s: int | None = None


class Readings(msgspec.Struct, frozen=True):
    """One look at the machine; what it does not report is None."""

    battery: bool | None
    usage: Usage
    since_input_s: float | None
    sensors: Sensors


class ControlStatistics(msgspec.Struct, frozen=True):
    """What governs the miner at present. `load` is the share of the machine that others use, None
    before the second look. `expected` is the number of coins that the hashes so far made likely.
    """

    rules: PauseRules
    automatic_workers: bool
    load: float | None
    sensors: Sensors | None
    expected: float


class Machine(Protocol):
    """What the miner runs on."""

    def read(self) -> Readings:
        """Look at the machine; may block for some milliseconds."""


class ThisMachine:
    """The machine that this process runs on."""

    def read(self) -> Readings:
        """Look at the machine; blocks for some milliseconds."""
        return Readings(on_battery(), read_usage(), since_input_s(), read_sensors())


def reasons_to_pause(
    rules: PauseRules, battery: bool | None, load: float | None, since_input: float | None
) -> frozenset[str]:
    """Return why the workers should pause: what is not known is no reason. `load` from 0 to 1."""
    reasons = set()
    if rules.on_battery and battery:
        reasons.add(BATTERY)
    if rules.above_load and load is not None and load * 100 > rules.above_load:
        reasons.add(LOAD)
    if rules.after_input_s and since_input is not None and since_input < rules.after_input_s:
        reasons.add(INPUT)
    return frozenset(reasons)


class CoinCount(Protocol):
    """Who knows how many coins were found."""

    @property
    def coins_found(self) -> int:
        """Coins found since the start."""


class MiningControl:
    """Changes a running pool, by hand and by itself.

    `status` has the present target of coins. `run` has to run for anything to happen by itself.
    """

    def __init__(
        self,
        pool: MiningPool,
        network: Network,
        config: MiningConfig,
        *,
        status: Watch[ChainStatus],
        epochs: CoinCount,
        runner: Runner,
        log: FilteringBoundLogger,
        machine: Machine | None = None,
    ) -> None:
        self._pool = pool
        self._network = network
        self._status = status
        self._epochs = epochs
        self._runner = runner
        self._log = log
        self._machine: Machine = ThisMachine() if machine is None else machine
        self._cores = physical_cores(usable_cpus())
        self._rules = PauseRules.of(config)
        self._automatic = config.workers == "auto"
        self._reasons: frozenset[str] = frozenset()
        self._calm: dict[str, int] = {}
        self._last: Readings | None = None
        self._load: float | None = None
        self._expected = 0.0
        self._hashes = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the machine until cancelled; then no pause remains but a person's."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._count)
                task_status.started()
                while True:
                    self._decide(await self._runner.run(self._machine.read))
                    await trio.sleep(MACHINE_POLL_S)
        finally:
            self._apply(frozenset())

    async def _count(self) -> None:
        """Add up what the hashes are worth, at the target of the time."""
        while True:
            hashes = self._pool.statistics().hashes
            self._expected += (hashes - self._hashes) * coin_chance(self._status.value.target)
            self._hashes = hashes
            await trio.sleep(1)

    def _decide(self, seen: Readings) -> None:
        if self._last is not None:
            self._load = others_load(self._last.usage, seen.usage)
        self._last = seen
        wanted = reasons_to_pause(self._rules, seen.battery, self._load, seen.since_input_s)
        # A load that swings around the limit must not make the workers start and stop with it.
        lasting = set()
        for reason in self._reasons - wanted - {BATTERY}:
            self._calm[reason] = self._calm.get(reason, 0) + 1
            if self._calm[reason] < CALM_POLLS and self._ruled(reason):
                lasting.add(reason)
        for reason in wanted:
            self._calm[reason] = 0
        self._apply(wanted | lasting)

    def _ruled(self, reason: str) -> bool:
        """Return whether a reason can still arise under the present rules."""
        return bool(self._rules.above_load if reason == LOAD else self._rules.after_input_s)

    def _apply(self, reasons: frozenset[str]) -> None:
        for reason in reasons - self._reasons:
            self._pool.pause(reason)
            self._log.info("mining.paused", reason=reason)
        for reason in self._reasons - reasons:
            self._pool.resume(reason)
            self._log.info("mining.resumed", reason=reason)
        self._reasons = reasons

    # By hand

    def pause(self) -> None:
        """Pause until `resume`."""
        self._pool.pause()

    def resume(self) -> None:
        """End a pause by hand; one for the machine's sake lasts as long as its reason."""
        self._pool.resume()

    def set_workers(self, workers: int | Literal["auto"]) -> int:
        """Mine with so many workers, or as many as suit the machine; return how many.

        Raises BadWorkerCountError. With "auto" it reads the system, for a millisecond.
        """
        chosen = workers
        if chosen == "auto":
            chosen = auto_workers(self._network.mem_kib, self._pool.statistics().affinity)
        self._pool.set_workers(chosen)
        self._automatic = workers == "auto"
        return chosen

    def change(self, changes: ControlChanges) -> None:
        """Change settings while the miner runs: all of them, or none where it raises.

        Raises BadWorkerCountError, BadNiceError, BadAffinityError, BadCpuCapError. A rule of when
        to pause counts from the next look at the machine on; workers that take other memory, or
        that the system lets only become nicer, are replaced or begin anew, and lose no hash.
        """
        if changes.workers is not None and changes.workers != "auto":
            check_workers(changes.workers)
        if changes.nice is not None:
            check_nice(changes.nice)
        if changes.affinity is not None:
            check_affinity(changes.affinity or None)
        if changes.cpu_cap is not None:
            check_cpu_cap(changes.cpu_cap)
        if changes.nice is not None:
            self._pool.set_nice(changes.nice)
        if changes.affinity is not None:
            self._pool.set_affinity(changes.affinity or None)
        if changes.cpu_cap is not None:
            self._pool.set_cpu_cap(changes.cpu_cap)
        if changes.huge_pages is not None:
            self._pool.set_huge_pages(changes.huge_pages)
        if changes.workers is not None:
            self.set_workers(changes.workers)
        elif changes.affinity is not None and self._automatic:
            self.set_workers("auto")
        self._rules = PauseRules(
            on_battery=_either(changes.pause_on_battery, self._rules.on_battery),
            above_load=_either(changes.pause_above_load, self._rules.above_load),
            after_input_s=_either(changes.pause_after_input_s, self._rules.after_input_s),
        )

    # What there is to report

    def pool_statistics(self) -> PoolStatistics:
        """Return a snapshot of the pool."""
        return self._pool.statistics()

    def statistics(self) -> ControlStatistics:
        """Return a snapshot of what governs the miner."""
        return ControlStatistics(
            rules=self._rules,
            automatic_workers=self._automatic,
            load=self._load,
            sensors=None if self._last is None else self._last.sensors,
            expected=self._expected,
        )

    def advice(self) -> Advice:
        """Return what to expect at the present target and the rate of the last minute."""
        pool = self._pool.statistics()
        return advise(
            self._network,
            self._status.value.target,
            rate=pool.rate_1m,
            workers=max(1, len(pool.workers)),
            most_workers=self._cores,
            mining=True,
            expected=self._expected,
            found=self._epochs.coins_found,
        )


def _either(new: T | None, old: T) -> T:
    return old if new is None else new
