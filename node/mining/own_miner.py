"""The node's own miner, joined."""

from __future__ import annotations

from dataclasses import dataclass

from unchained.miner.pool import MiningPool
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
