"""The epoch manager: turns the chain into work for the miner, and what the miner finds into coins.

It watches the chain, builds a template whenever the tip or the candidates change, hands the miner a
job with a time (and so a lock) of its own, and submits what comes back. An anchor that is found
here has its body at once: the template's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.miner.jobs import Job, Solution
from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Watch
from unchained.node.chain.results import Held
from unchained.node.chain.service import ChainService
from unchained.node.chain.status import ChainStatus
from unchained.node.chain.template import Template
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.consensus.errors import ProtocolError
from unchained.node.mining.mined_coins import MinedCoins
from unchained.node.primitives.coin import NONCE_OFFSET, Coin
from unchained.node.primitives.types import CoinId, Lock

REFRESHES_PER_EPOCH: Final = 20
"""How often an epoch's template takes in new transfers; new coins and anchors go in at once."""

JOBS_REMEMBERED: Final = 512
"""Jobs whose solutions are still taken: a worker may find a coin on a job just superseded."""


class Payout(Protocol):
    """Decides whom a coin pays."""

    def lock_for(self, parent: CoinId, time_ms: int) -> Lock:
        """Return the lock of a coin with this parent and header time (Protocol §9)."""


class Miner(Protocol):
    """What the epoch manager needs of the mining pool."""

    @property
    def solutions(self) -> trio.MemoryReceiveChannel[Solution]:
        """Coins found, in the order of their finding."""

    def set_job(self, job: Job | None) -> None:
        """Work on a job from here on, or on none."""


class EpochStatistics(msgspec.Struct, frozen=True):
    """Counts since the start. `height` is that of the coins being mined, 0 if none are."""

    mining: bool
    height: int
    templates: int
    jobs: int
    coins_found: int
    anchors_found: int
    coins_rejected: int
    listed: int
    """Coins of the epoch being mined that the template would include."""


class EpochManager:
    """Keeps a miner at work on the chain's tip.

    `may_mine` is false while the node is behind. `mined` follows every coin that the chain
    accepted.
    """

    def __init__(
        self,
        chain: ChainService,
        miner: Miner,
        payout: Payout,
        *,
        clock: Clock,
        may_mine: Watch[bool],
        mined: MinedCoins,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._miner = miner
        self._payout = payout
        self._clock = clock
        self._may_mine = may_mine
        self._mined = mined
        self._log = log
        self._template: Template | None = None
        self._jobs: OrderedDict[int, Template] = OrderedDict()
        self._next_job = 1
        self._templates = self._found = self._anchors = self._rejected = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mine until cancelled; then the miner has no job."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, name="epochs.templates")
                nursery.start_soon(self._collect, name="epochs.solutions")
                task_status.started()
        finally:
            self._miner.set_job(None)

    async def _follow(self) -> None:
        """Renew the template whenever the chain has something new for it."""
        refresh_s = self._chain.network.epoch_ms / 1000 / REFRESHES_PER_EPOCH
        while True:
            if not self._may_mine.value:
                self._template = None
                self._miner.set_job(None)
                await self._may_mine.wait_for(bool)
            version, status = self._chain.status.version, self._chain.status.value
            template = await self._chain.template()
            # Protocol §6: a node whose clock is behind its tip "neither chooses nor mines"
            if template.parent_time > self._clock.now_ms() + self._chain.network.future_limit_ms:
                self._template = None
                self._miner.set_job(None)
            else:
                self._template = template
                self._templates += 1
                self._issue(template)
            await self._wait_for_change(version, status, refresh_s)

    async def _wait_for_change(self, version: int, status: ChainStatus, refresh_s: float) -> None:
        """Return when the template is out of date, or mining must stop."""
        async with trio.open_nursery() as nursery:

            async def watch_permission() -> None:
                await self._may_mine.wait_for(lambda may: not may)
                nursery.cancel_scope.cancel()

            async def watch_chain() -> None:
                seen, new = version, status
                with trio.move_on_after(refresh_s):
                    while _coins_of(new) == _coins_of(status):
                        seen, new = await self._chain.status.wait_newer(seen)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch_permission)
            nursery.start_soon(watch_chain)

    def _issue(self, template: Template) -> None:
        """Hand out a job on a template, with a time that no other job has."""
        time_ms = self._chain.job_time(template)
        lock = self._payout.lock_for(template.parent, time_ms)
        header = template.header(lock=lock, time=time_ms)
        job = Job(
            number=self._next_job,
            header_prefix=header.to_bytes()[:NONCE_OFFSET],
            target=template.target,
            mem_kib=self._chain.network.mem_kib,
            max_coins=1,
        )
        self._next_job += 1
        self._jobs[job.number] = template
        while len(self._jobs) > JOBS_REMEMBERED:
            self._jobs.popitem(last=False)
        self._miner.set_job(job)

    async def _collect(self) -> None:
        async for solution in self._miner.solutions:
            template = self._jobs.get(solution.job_number)
            if template is None:
                continue
            # The next job of the same epoch at once: the miner does not wait for the chain.
            coin = Coin.from_bytes(solution.header + solution.mix)
            anchor = is_anchor_grade(coin, self._chain.network)
            if template is self._template and not anchor:
                self._issue(template)
            await self._submit(coin, template, anchor=anchor, worker=solution.worker)

    async def _submit(self, coin: Coin, template: Template, *, anchor: bool, worker: int) -> None:
        self._found += 1
        try:
            # Verified here too: a worker with bad memory must not put a forged coin on record.
            outcome = await self._chain.submit_mined(coin, template)
            self._log.info(
                "coin.found",
                height=coin.height,
                id=coin.id.hex(),
                anchor=anchor,
                worker=worker,
            )
            self._anchors += anchor and not isinstance(outcome, Held)
        except ProtocolError as error:
            self._rejected += 1
            self._log.warning("coin.rejected", id=coin.id.hex(), rule=error.name, why=str(error))
            return
        self._mined.add(coin)

    @property
    def coins_found(self) -> int:
        """Coins found since the start."""
        return self._found

    def statistics(self) -> EpochStatistics:
        """Return counts since the start."""
        return EpochStatistics(
            mining=self._template is not None,
            height=0 if self._template is None else self._template.height,
            templates=self._templates,
            jobs=self._next_job - 1,
            coins_found=self._found,
            anchors_found=self._anchors,
            coins_rejected=self._rejected,
            listed=0 if self._template is None else len(self._template.body.fresh),
        )


def _coins_of(status: ChainStatus) -> tuple[CoinId, int, bool]:
    """Return what makes a template out of date at once: another tip, another known coin, a clock
    that has come to be behind the tip, or is no more."""
    return status.tip, status.coins, status.clock_behind_ms > 0
