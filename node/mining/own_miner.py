"""The node's own miner, joined."""

from __future__ import annotations

from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from unchained.miner.losses import LossLog
from unchained.miner.machine import auto_workers
from unchained.miner.pool import MiningPool
from unchained.miner.settings import raised_nice
from unchained.node.base.clock import Clock
from unchained.node.base.config import MiningConfig
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import ThreadRunner
from unchained.node.chain.service import ChainService
from unchained.node.mining.control import MiningControl
from unchained.node.mining.epoch_manager import EpochManager
from unchained.node.mining.mined_coins import MinedCoins
from unchained.node.mining.payout import AccountPayout, FixedPayout


@dataclass(frozen=True, slots=True)
class OwnMiner:
    """Who hashes, on what, under which rules, and what became of the coins."""

    pool: MiningPool
    epochs: EpochManager
    control: MiningControl
    mined: MinedCoins
    payout: FixedPayout | AccountPayout

    def mines(self) -> bool:
        """Return whether the pool has a job and no pause."""
        return self.epochs.statistics().mining and not self.pool.statistics().paused


def make_miner(
    config: MiningConfig,
    chain: ChainService,
    payout: FixedPayout | AccountPayout,
    clock: Clock,
    may_mine: Watch[bool],
    log: FilteringBoundLogger,
) -> OwnMiner:
    """Return the node's own miner."""
    workers = config.workers
    if workers == "auto":
        workers = auto_workers(chain.network.mem_kib, config.affinity)
    nice = raised_nice(config.nice)
    if nice != config.nice:
        log.info("mining.nice_raised", wanted=config.nice, nice=nice)
    pool = MiningPool(
        workers=workers,
        nice=nice,
        affinity=config.affinity or None,
        cpu_cap=config.cpu_cap,
        huge_pages=config.huge_pages,
        losses=LossLog(log),
    )
    mined = MinedCoins(chain)
    epochs = EpochManager(chain, pool, payout, clock=clock, may_mine=may_mine, mined=mined, log=log)
    control = MiningControl(
        pool,
        chain.network,
        config,
        status=chain.status,
        epochs=epochs,
        runner=ThreadRunner(1),
        log=log,
    )
    return OwnMiner(pool, epochs, control, mined, payout)
