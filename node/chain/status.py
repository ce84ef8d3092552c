"""The present of a chain and of its manager, as snapshots."""

from __future__ import annotations

import msgspec

from unchained.node.base.counted import ChannelStatistics
from unchained.node.base.latency import LatencyStatistics
from unchained.node.chain.mempool.mempool import MempoolStatistics
from unchained.node.chain.results import ReorgRefused
from unchained.node.chain.step_counts import StepStatistics
from unchained.node.crypto.history_range import HistoryPeaks
from unchained.node.primitives.types import CoinId


class ChainStatus(msgspec.Struct, frozen=True):
    """The present of a chain. Times in ms, amounts in grains.

    `votes` are the tip's, `n_total` and `target` those of the tip's children, `history` is the
    range after it; `next_event` is the sequence number that the next event will have, `coins`
    counts those that became known since the chain was opened, `anchors` those of the last MAX_REORG
    heights on every branch. `refused` stands while a reorganisation waits for the operator.
    `clock_behind_ms` is by how much the node's clock is behind the tip where that is more than
    FUTURE_LIMIT, else 0: then nothing is chosen or mined. At `next_due_ms` the clock lets a coin
    count that is stored already.
    """

    tip: CoinId
    height: int
    votes: int
    tip_time: int
    n_total: int
    target: int
    history: HistoryPeaks
    supply: int
    pool: int
    next_event: int
    coins: int
    anchors: int
    mempool: MempoolStatistics
    refused: ReorgRefused | None
    clock_behind_ms: int
    next_due_ms: int | None


class ManagerStatistics(msgspec.Struct, frozen=True):
    """Counts since the start, and what is held at present. `refused` counts reorganisations that
    were left to the operator. `verifying` proofs and transfers are in hand, or wait for a thread;
    `writing` is how long the writer takes for what it does in one go, `queue` what waits for it."""

    operations: int
    coins: int
    connected: int
    disconnected: int
    mixes_verified: int
    transfers_validated: int
    orphans: int
    early: int
    refused: int
    steps: StepStatistics
    verifying: int
    proof_latency: LatencyStatistics
    transfer_latency: LatencyStatistics
    writing: LatencyStatistics
    queue: ChannelStatistics
    listeners: ChannelStatistics
