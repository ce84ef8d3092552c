"""Rows of the table of metrics: the chain, verification, the mempool."""

from __future__ import annotations

from typing import Final

from unchained.node.observe.metric import ON_ANCHOR, Metric, counter, gauge, histogram

CHAIN_METRICS: Final[tuple[Metric, ...]] = (
    # The chain
    gauge("chain_height", "status.height", "Height of the tip.", "anchors"),
    gauge(
        "chain_tip_number",
        "tip_number",
        "First 48 bits of the tip's id: nodes whose lines lie apart are on different chains.",
    ),
    gauge(
        "chain_tip_age_seconds",
        "tip_age_s",
        "Time since the tip was mined, by the tip's clock.",
        "seconds",
    ),
    gauge(
        "chain_epoch_target_seconds",
        "epoch_s",
        "Time from one anchor to the next, on average, by the network's rules.",
        "seconds",
    ),
    gauge("chain_tip_votes", "status.votes", "Coins known that are bound to the tip.", "coins"),
    gauge(
        "chain_side_anchors",
        "side_anchors",
        "Anchors of the last MAX_REORG heights on other branches than the main chain.",
        "anchors",
    ),
    gauge("chain_difficulty_hashes", "difficulty", "Hashes that a coin takes on average."),
    gauge(
        "chain_hashes_per_second",
        "network_rate",
        "Hash rate that the present target stands for, of all miners together.",
    ),
    gauge("chain_supply_grains", "status.supply", "Value of all coins.", "grains"),
    gauge("chain_pool_grains", "status.pool", "Fees that no anchor's coin has had yet.", "grains"),
    gauge(
        "chain_clock_behind_seconds",
        "status.clock_behind_ms",
        "By how much the clock is behind the tip, where nothing is mined for it; else 0.",
        "seconds",
        scale=0.001,
    ),
    counter(
        "chain_anchors_connected",
        "chain.steps.connected",
        "Anchors that joined the main chain.",
        "anchors",
        sampled=ON_ANCHOR,
        has_exemplar=True,
    ),
    counter(
        "chain_anchors_disconnected",
        "chain.steps.disconnected",
        "Anchors that left the main chain in reorganisations.",
        "anchors",
        sampled="when an anchor is disconnected",
        has_exemplar=True,
    ),
    counter(
        "chain_anchors_failed",
        "chain.steps{invalid,dead}",
        "Anchors that broke a rule: of their body (invalid), or as they were connected (dead).",
        "anchors",
        label="how",
        sampled="when an anchor breaks a rule",
    ),
    counter(
        "chain_reorgs",
        "chain.steps.reorgs",
        "Reorganisations.",
        sampled="when anchors are disconnected",
        has_exemplar=True,
    ),
    counter(
        "chain_reorgs_refused",
        "chain.steps.refused",
        "Better chains that were left to the operator, as they would undo more than MAX_REORG.",
        sampled="when one is refused",
    ),
    gauge(
        "chain_reorg_refused_depth",
        "refused_depth",
        "Anchors that the better chain would undo which waits for the operator; 0: none waits.",
        "anchors",
    ),
    gauge(
        "chain_reorg_last_depth",
        "chain.steps.last_reorg",
        "Anchors that the last reorganisation undid.",
        "anchors",
        sampled="when anchors are disconnected",
    ),
    gauge(
        "chain_reorg_deepest",
        "chain.steps.deepest_reorg",
        "Anchors that the deepest reorganisation since the start undid.",
        "anchors",
        sampled="when anchors are disconnected",
    ),
    histogram(
        "chain_epoch_interval",
        "chain.steps.epochs",
        "Time from one connected anchor to the next, by their own clocks.",
        sampled=ON_ANCHOR,
    ),
    counter(
        "chain_coins_known",
        "chain.steps.coins",
        "Coins that became known and valid.",
        "coins",
        sampled="when a coin becomes known",
    ),
    counter(
        "chain_coins_included",
        "chain.steps{fresh,late,stray}",
        "Coins that connected anchors include.",
        "coins",
        label="kind",
        sampled=ON_ANCHOR,
    ),
    counter(
        "chain_transfers_included",
        "chain.steps.transfers",
        "Transfers that connected anchors include.",
        "transfers",
        sampled=ON_ANCHOR,
    ),
    gauge(
        "chain_coins_held",
        "chain{orphans,early}",
        "Coins that wait: for their parent (orphans), or for the clock (early).",
        "coins",
        label="why",
    ),
    counter(
        "chain_operations",
        "chain.operations",
        "What the chain's writer was asked to do.",
        sampled="when the writer has done it",
    ),
    histogram(
        "chain_write",
        "chain.writing",
        "Time that the chain's writer takes for what it does in one go.",
        sampled="when the writer has done it",
    ),
    # Verification
    counter(
        "verification_items",
        "chain{mixes_verified,transfers_validated}",
        "Proofs of work (mixes) and transfers verified.",
        label="kind",
        sampled="when they are handed to a thread",
    ),
    gauge(
        "verification_debt",
        "chain.verifying",
        "Proofs of work and transfers that are being verified or wait for a thread.",
    ),
    histogram(
        "verification_proof",
        "chain.proof_latency",
        "Time to verify one proof of work, in its thread.",
        sampled="when one is verified",
    ),
    histogram(
        "verification_transfer",
        "chain.transfer_latency",
        "Time to validate one transfer, in its thread.",
        sampled="when one is validated",
    ),
    # The mempool
    gauge("mempool_transfers", "status.mempool.transfers", "Transfers that wait.", "transfers"),
    gauge("mempool_bytes", "status.mempool.bytes", "Bytes of the transfers that wait.", "bytes"),
    gauge("mempool_capacity_bytes", "status.mempool.capacity", "Bytes that may wait.", "bytes"),
    gauge("mempool_fees_grains", "status.mempool.fees", "Fees of all that wait.", "grains"),
    gauge(
        "mempool_min_fee_rate",
        "status.mempool.min_fee_rate",
        "Grains per byte below which nothing is taken in.",
    ),
)
"""Of what the node holds true."""
