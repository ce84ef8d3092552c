"""mine.*: the node's own miner, what it does, what to expect of it, and its settings."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from unchained.miner.advisor import Advice
from unchained.miner.jobs import PoolStatistics
from unchained.node.base.user_text import user_text
from unchained.node.chain.service import ChainService
from unchained.node.consensus.fork_choice import work
from unchained.node.mining.control import ControlChanges, ControlStatistics, MiningControl
from unchained.node.mining.mined_coins import MinedCoinsStatistics
from unchained.node.mining.own_miner import OwnMiner
from unchained.node.rpc.core.errors import InvalidParamsError, UnavailableError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.http.criterion import ReadinessSource, waits_for
from unchained.node.rpc.methods.header import shown_target
from unchained.node.rpc.methods.mining import ON_DEMAND

Workers = Annotated[int, msgspec.Meta(ge=1, le=1024)] | Literal["auto"]


@user_text("One worker process; `hashrate` in hashes per second.")
class WorkerInfo(msgspec.Struct, frozen=True):
    worker: int
    status: str
    hashrate: float
    hashes: int
    coins: int
    restarts: int
    last_failure: str | None


@user_text(
    """What became of the coins found since the node started: `included` by the anchor of their own
    epoch, `late` or `stray` by a later one, `waiting` for it, or `lost`: the chain went on without
    them. `earned` with fees; what was found before is in the wallet."""
)
class Harvested(msgspec.Struct, frozen=True):
    included: int
    late: int
    stray: int
    waiting: int
    lost: int
    earned: Amount


@user_text(
    """How the workers run at present. `affinity` lists CPUs, none: all; `cpu_cap` in percent of a
    CPU for each; `pause_above_load` in percent of the machine, `pause_after_input_s` in seconds, 0:
    never."""
)
class MinerSettings(msgspec.Struct, frozen=True):
    workers: int
    automatic_workers: bool
    nice: int
    affinity: list[int]
    cpu_cap: int
    huge_pages: bool
    pause_on_battery: bool
    pause_above_load: int
    pause_after_input_s: int


@user_text(
    """What the machine reports of itself, None where it does not. `load`: the share of it that
    other programs use; `temperature` in degrees Celsius; `clock` as a share of the highest;
    `throttled`: how often heat has held a core back."""
)
class MachineState(msgspec.Struct, frozen=True):
    load: float | None
    temperature: float | None
    clock: float | None
    throttled: int | None


@user_text(
    """The node's own miner. `status`: `off` where the node was started without one, `waiting`
    while the chain is behind. `pauses` says why it is paused. Hashrates in hashes per second over
    the last 10 s, minute and quarter of an hour; `work` the hashes that a coin takes on average;
    `expected_ms` between two coins of this node, at the rate of 10 s. `advice`: what to expect at
    the rate of the minute, and how lucky it was so far. What there is not without a miner is None.
    `waits_for` says why it is `waiting`, None where it is not.
    """
)
class MiningStatus(msgspec.Struct, frozen=True):
    status: Literal["off", "paused", "waiting", "mining"]
    pauses: list[str]
    height: int
    backend: str | None
    workers: list[WorkerInfo]
    hashrate: float
    hashrate_1m: float
    hashrate_15m: float
    hashes: int
    coins_found: int
    anchors_found: int
    coins_rejected: int
    harvest: Harvested | None
    target: Hash
    work: str
    expected_ms: int | None
    settings: MinerSettings | None
    machine: MachineState | None
    advice: Advice | None
    waits_for: str | None = None


class MinerRoom:
    """Methods about the node's own miner; `miner` is None where it has none."""

    def __init__(
        self,
        chain: ChainService,
        *,
        miner: OwnMiner | None,
        readiness: ReadinessSource,
    ) -> None:
        self._chain = chain
        self._readiness = readiness
        self._miner = miner
        self._control = None if miner is None else miner.control

    @method("mine.status", Access.READ)
    @user_text("Return what the node's own miner does and what to expect of it.")
    async def status(self) -> MiningStatus:
        target = self._chain.status.value.target
        hashes_per_coin = work(target)
        control = self._control
        pool = None if control is None else control.pool_statistics()
        governed = None if control is None else control.statistics()
        counts = None if self._miner is None else self._miner.epochs.statistics()
        state: Literal["off", "paused", "waiting", "mining"] = "off"
        if pool is not None:
            mining = counts is not None and counts.mining
            state = "paused" if pool.paused else "mining" if mining else "waiting"
        rate = 0.0 if pool is None else pool.rate
        return MiningStatus(
            status=state,
            pauses=[] if pool is None else list(pool.pauses),
            height=0 if counts is None else counts.height,
            backend=None if pool is None else pool.backend,
            workers=[] if pool is None else _workers(pool),
            hashrate=rate,
            hashrate_1m=0.0 if pool is None else pool.rate_1m,
            hashrate_15m=0.0 if pool is None else pool.rate_15m,
            hashes=0 if pool is None else pool.hashes,
            coins_found=0 if counts is None else counts.coins_found,
            anchors_found=0 if counts is None else counts.anchors_found,
            coins_rejected=0 if counts is None else counts.coins_rejected,
            harvest=None if self._miner is None else _harvested(self._miner.mined.statistics()),
            target=shown_target(target),
            work=str(hashes_per_coin),
            expected_ms=int(hashes_per_coin / rate * 1000) if rate >= 1e-6 else None,
            settings=None if pool is None or governed is None else _settings(pool, governed),
            machine=None if governed is None else _machine(governed),
            advice=None if control is None else control.advice(),
            waits_for=waits_for(self._readiness.check()) if state == "waiting" else None,
        )

    @method("mine.start", Access.FULL, errors=(UnavailableError,))
    @user_text("Let the node's workers go on after mine.stop.")
    async def start(self) -> MiningStatus:
        self._own().resume()
        return await self.status()

    @method("mine.stop", Access.FULL, errors=(UnavailableError,))
    @user_text("Let the node's workers pause until mine.start, or until the node starts again.")
    async def stop(self) -> MiningStatus:
        self._own().pause()
        return await self.status()

    @method("mine.set_workers", Access.FULL, errors=(UnavailableError, InvalidParamsError))
    @user_text(
        """Let so many worker processes mine, until the node starts again; `auto`: as many as
        suit the machine."""
    )
    async def set_workers(self, workers: Workers) -> MiningStatus:
        self._own().set_workers(workers)
        return await self.status()

    @method("mine.set", Access.FULL, errors=(UnavailableError, InvalidParamsError))
    @user_text(
        """Change settings of the running miner, until the node starts again.

        What is left out stays as it is; where one cannot be, none is changed. `affinity`: the CPUs
        that workers are pinned to, an empty list frees them. `cpu_cap`: percent of a CPU for each
        worker. `pause_above_load`: pause while other programs use more than so many percent of the
        machine; `pause_after_input_s`: until nobody has typed at a terminal for so long; 0: never.
        """
    )
    async def set(
        self,
        workers: Workers | None = None,
        nice: Annotated[int, msgspec.Meta(ge=0, le=19)] | None = None,
        affinity: Annotated[
            list[Annotated[int, msgspec.Meta(ge=0, le=4095)]], msgspec.Meta(max_length=4096)
        ]
        | None = None,
        cpu_cap: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None,
        huge_pages: bool | None = None,
        pause_on_battery: bool | None = None,
        pause_above_load: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None,
        pause_after_input_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] | None = None,
    ) -> MiningStatus:
        self._own().change(
            ControlChanges(
                workers=workers,
                nice=nice,
                affinity=None if affinity is None else tuple(affinity),
                cpu_cap=cpu_cap,
                huge_pages=huge_pages,
                pause_on_battery=pause_on_battery,
                pause_above_load=pause_above_load,
                pause_after_input_s=pause_after_input_s,
            )
        )
        return await self.status()

    def _own(self) -> MiningControl:
        if self._control is None and self._chain.network.name == ON_DEMAND:
            raise UnavailableError("this network mines on demand: see mine.generate")
        if self._control is None:
            raise UnavailableError("this node was started without mining: start it with --mine")
        return self._control


def _workers(pool: PoolStatistics) -> list[WorkerInfo]:
    return [
        WorkerInfo(
            worker.worker,
            worker.state,
            worker.rate,
            worker.hashes,
            worker.solutions,
            worker.restarts,
            worker.last_failure,
        )
        for worker in pool.workers
    ]


def _harvested(found: MinedCoinsStatistics) -> Harvested:
    return Harvested(
        found.included, found.late, found.stray, found.waiting, found.lost, Amount(found.earned)
    )


def _settings(pool: PoolStatistics, governed: ControlStatistics) -> MinerSettings:
    return MinerSettings(
        workers=len(pool.workers),
        automatic_workers=governed.automatic_workers,
        nice=pool.nice,
        affinity=list(pool.affinity or ()),
        cpu_cap=pool.cpu_cap,
        huge_pages=pool.huge_pages,
        pause_on_battery=governed.rules.on_battery,
        pause_above_load=governed.rules.above_load,
        pause_after_input_s=governed.rules.after_input_s,
    )


def _machine(governed: ControlStatistics) -> MachineState:
    sensors = governed.sensors
    if sensors is None:
        return MachineState(governed.load, None, None, None)
    return MachineState(governed.load, sensors.temperature, sensors.clock, sensors.throttled)
