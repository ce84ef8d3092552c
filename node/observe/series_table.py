"""The table of series: what a node remembers of its last day, one value a minute."""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class Series(msgspec.Struct, frozen=True):
    """One series. `path` names a member of `NodeStatistics`. A `level` is kept as it is, of what
    only grows the `rate` per second since the value before; of a latency its `mean`, in seconds."""

    name: str
    kind: Literal["level", "rate", "mean"]
    unit: str
    path: str
    help: str
    scale: float = 1.0


def _level(name: str, path: str, text: str, unit: str = "", scale: float = 1.0) -> Series:
    return Series(name, "level", unit, path, text, scale)


def _rate(name: str, path: str, text: str, unit: str = "", scale: float = 1.0) -> Series:
    return Series(name, "rate", f"{unit}/s" if unit else "1/s", path, text, scale)


def _mean(name: str, path: str, text: str) -> Series:
    return Series(name, "mean", "s", path, text)


SERIES: Final[tuple[Series, ...]] = (
    _level("height", "status.height", "height of the tip", "anchors"),
    _level("tip_age", "tip_age_s", "time since the tip was mined", "s"),
    _level("votes", "status.votes", "coins bound to the tip", "coins"),
    _level("side_anchors", "side_anchors", "anchors on other branches", "anchors"),
    _level("difficulty", "difficulty", "hashes that a coin takes on average", "hashes"),
    _level("network_hashrate", "network_rate", "hash rate that the target stands for", "hashes/s"),
    _level("supply", "status.supply", "value of all coins", "grains"),
    _level("pool", "status.pool", "fees in the pool", "grains"),
    _rate("anchors", "chain.steps.connected", "anchors connected", "anchors"),
    _mean("epoch", "chain.steps.epochs", "time from one anchor to the next"),
    _rate("reorgs", "chain.steps.reorgs", "reorganisations"),
    _rate("undone", "chain.steps.disconnected", "anchors undone", "anchors"),
    _level("deepest_reorg", "chain.steps.deepest_reorg", "deepest reorganisation", "anchors"),
    _rate("coins", "chain.steps.coins", "coins that became known", "coins"),
    _rate("coins_fresh", "chain.steps.fresh", "coins included as fresh", "coins"),
    _rate("coins_late", "chain.steps.late", "coins included as late", "coins"),
    _rate("coins_stray", "chain.steps.stray", "coins included as stray", "coins"),
    _level("coins_orphaned", "chain.orphans", "coins that wait for their parent", "coins"),
    _rate("transfers", "chain.steps.transfers", "transfers included", "transfers"),
    _level("mempool_transfers", "status.mempool.transfers", "transfers that wait", "transfers"),
    _level("mempool_bytes", "status.mempool.bytes", "bytes of transfers that wait", "bytes"),
    _level("mempool_fees", "status.mempool.fees", "fees of all that wait", "grains"),
    _level("min_fee_rate", "status.mempool.min_fee_rate", "least fee rate", "grains/byte"),
    _level("verifying", "chain.verifying", "proofs and transfers in verification"),
    _mean("proof_time", "chain.proof_latency", "time to verify a proof of work"),
    _mean("transfer_time", "chain.transfer_latency", "time to validate a transfer"),
    _mean("write_time", "chain.writing", "time of the writer for one go"),
    _level("peers_inbound", "network.peers.inbound", "peers that came", "peers"),
    _level("peers_outbound", "network.peers.outbound", "peers that were dialled", "peers"),
    _level("peers_greeted", "network.peers.greeted", "peers that speak the protocol", "peers"),
    _level("peers_apart", "peers_apart", "peers on another chain", "peers"),
    _level("peers_known", "network.peers.book.tried", "addresses that are good", "addresses"),
    _level("bans", "network.peers.bans", "bans that hold"),
    _level("clock_offset", "clock_offset_s", "peers' clocks ahead of this one", "s"),
    _mean("peer_latency", "network.peers.latency", "time for a peer to answer"),
    _rate("gossip_received", "network.transport.gossip_received", "messages received"),
    _rate("gossip_duplicates", "network.transport.gossip_duplicates", "messages received again"),
    _rate("gossip_rejected", "network.transport.gossip_rejected", "messages rejected"),
    _rate("gossip_dropped", "network.transport.gossip_dropped", "messages dropped"),
    _rate("bytes_received", "network.transport.bytes_received", "bytes from peers", "bytes"),
    _rate("bytes_sent", "network.transport.bytes_sent", "bytes to peers", "bytes"),
    _rate("requests_served", "network.transport.requests_served", "requests of peers"),
    _level("sync_lag", "sync_lag", "anchors still to be fetched", "anchors"),
    _level("hashrate", "miner.rate", "own hash rate", "hashes/s"),
    _rate("hashes", "miner.hashes", "hashes made here", "hashes"),
    _level("coins_found", "epochs.coins_found", "coins found here since the start", "coins"),
    _level("coins_expected", "control.expected", "coins expected since the start", "coins"),
    _level("anchors_found", "epochs.anchors_found", "anchors found here since the start"),
    _level("coins_rejected", "epochs.coins_rejected", "own coins rejected since the start"),
    _level("coins_included", "harvest.included", "own coins included since the start", "coins"),
    _level("earned", "harvest.earned", "earned since the start", "grains"),
    _level("job_delay", "job_delay_s", "time for a job to reach the workers", "s"),
    _rate("store_calls", "store.calls", "calls into the database"),
    _rate("store_written", "store.bytes_written", "bytes written", "bytes"),
    _mean("store_read_time", "store.reading", "time of a read"),
    _mean("store_sync_time", "store.syncing", "time of a synced batch"),
    _mean("loop_turn", "loop.turns", "time of a turn of the event loop"),
    _rate("slow_steps", "loop.blocking_steps", "steps above 50 ms"),
    _rate("rpc_requests", "rpc.requests", "requests over HTTP"),
    _mean("rpc_time", "rpc.latency", "time of a call"),
    _level("wallet_lag", "wallet_lag", "anchors that the last wallet has to read", "anchors"),
    _rate("log_dropped", "log.dropped", "events dropped"),
    _level("memory", "process.resident", "resident memory", "bytes"),
    _rate("cpu", "process.cpu_s", "CPU time of the node alone", "s"),
    _level("disk_free", "process.disk_free", "room on the disk", "bytes"),
)
"""All series, by subject."""
