"""The table of metrics: one row for each, from which the page, its documentation, and the checks
of rules and dashboards are made.

A row names what it shows by its path in `NodeStatistics`: nothing is counted or computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from unchained.node.base.latency import LatencyStatistics
from unchained.node.base.loop_monitor import OTHERS
from unchained.node.observe.node_statistics import NodeStatistics

LABEL_VALUES_MAX: Final = 16
"""Values of a label that one metric shows apart, the first; all others are summed up."""

Kind = Literal["counter", "gauge", "histogram"]

AT_SCRAPE: Final = "at each scrape"
ON_ANCHOR: Final = "when an anchor is connected"


class Metric(msgspec.Struct, frozen=True):
    """One metric. `path` names a member of `NodeStatistics`, member by member; in braces at its
    end stand several of them, whose names become the values of `label`. `scale` makes base units
    of what is counted."""

    name: str
    kind: Kind
    unit: str
    path: str
    help: str
    label: str = ""
    sampled: str = AT_SCRAPE
    scale: float = 1.0
    has_exemplar: bool = False
    """Each sample names the height and the short id of the tip that it belongs to."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(self.label.split(",")) if self.label else ()


def _counter(name: str, path: str, text: str, unit: str = "", **more: str | float) -> Metric:
    return Metric(f"unchained_{name}_total", "counter", unit, path, text, **more)  # type: ignore[arg-type]


def _gauge(name: str, path: str, text: str, unit: str = "", **more: str | float) -> Metric:
    return Metric(f"unchained_{name}", "gauge", unit, path, text, **more)  # type: ignore[arg-type]


def _histogram(name: str, path: str, text: str, **more: str | float) -> Metric:
    return Metric(f"unchained_{name}_seconds", "histogram", "seconds", path, text, **more)  # type: ignore[arg-type]


METRICS: Final[tuple[Metric, ...]] = (
    # The chain
    _gauge("chain_height", "status.height", "Height of the tip.", "anchors"),
    _gauge(
        "chain_tip_number",
        "tip_number",
        "First 48 bits of the tip's id: nodes whose lines lie apart are on different chains.",
    ),
    _gauge(
        "chain_tip_age_seconds",
        "tip_age_s",
        "Time since the tip was mined, by the tip's clock.",
        "seconds",
    ),
    _gauge(
        "chain_epoch_target_seconds",
        "epoch_s",
        "Time from one anchor to the next, on average, by the network's rules.",
        "seconds",
    ),
    _gauge("chain_tip_votes", "status.votes", "Coins known that are bound to the tip.", "coins"),
    _gauge(
        "chain_side_anchors",
        "side_anchors",
        "Anchors of the last MAX_REORG heights on other branches than the main chain.",
        "anchors",
    ),
    _gauge("chain_difficulty_hashes", "difficulty", "Hashes that a coin takes on average."),
    _gauge(
        "chain_hashes_per_second",
        "network_rate",
        "Hash rate that the present target stands for, of all miners together.",
    ),
    _gauge("chain_supply_grains", "status.supply", "Value of all coins.", "grains"),
    _gauge("chain_pool_grains", "status.pool", "Fees that no anchor's coin has had yet.", "grains"),
    _gauge(
        "chain_clock_behind_seconds",
        "status.clock_behind_ms",
        "By how much the clock is behind the tip, where nothing is mined for it; else 0.",
        "seconds",
        scale=0.001,
    ),
    _counter(
        "chain_anchors_connected",
        "chain.steps.connected",
        "Anchors that joined the main chain.",
        "anchors",
        sampled=ON_ANCHOR,
        has_exemplar=True,
    ),
    _counter(
        "chain_anchors_disconnected",
        "chain.steps.disconnected",
        "Anchors that left the main chain in reorganisations.",
        "anchors",
        sampled="when an anchor is disconnected",
        has_exemplar=True,
    ),
    _counter(
        "chain_anchors_failed",
        "chain.steps{invalid,dead}",
        "Anchors that broke a rule: of their body (invalid), or as they were connected (dead).",
        "anchors",
        label="how",
        sampled="when an anchor breaks a rule",
    ),
    _counter(
        "chain_reorgs",
        "chain.steps.reorgs",
        "Reorganisations.",
        sampled="when anchors are disconnected",
        has_exemplar=True,
    ),
    _counter(
        "chain_reorgs_refused",
        "chain.steps.refused",
        "Better chains that were left to the operator, as they would undo more than MAX_REORG.",
        sampled="when one is refused",
    ),
    _gauge(
        "chain_reorg_refused_depth",
        "refused_depth",
        "Anchors that the better chain would undo which waits for the operator; 0: none waits.",
        "anchors",
    ),
    _gauge(
        "chain_reorg_last_depth",
        "chain.steps.last_reorg",
        "Anchors that the last reorganisation undid.",
        "anchors",
        sampled="when anchors are disconnected",
    ),
    _gauge(
        "chain_reorg_deepest",
        "chain.steps.deepest_reorg",
        "Anchors that the deepest reorganisation since the start undid.",
        "anchors",
        sampled="when anchors are disconnected",
    ),
    _histogram(
        "chain_epoch_interval",
        "chain.steps.epochs",
        "Time from one connected anchor to the next, by their own clocks.",
        sampled=ON_ANCHOR,
    ),
    _counter(
        "chain_coins_known",
        "chain.steps.coins",
        "Coins that became known and valid.",
        "coins",
        sampled="when a coin becomes known",
    ),
    _counter(
        "chain_coins_included",
        "chain.steps{fresh,late,stray}",
        "Coins that connected anchors include.",
        "coins",
        label="kind",
        sampled=ON_ANCHOR,
    ),
    _counter(
        "chain_transfers_included",
        "chain.steps.transfers",
        "Transfers that connected anchors include.",
        "transfers",
        sampled=ON_ANCHOR,
    ),
    _gauge(
        "chain_coins_held",
        "chain{orphans,early}",
        "Coins that wait: for their parent (orphans), or for the clock (early).",
        "coins",
        label="why",
    ),
    _counter(
        "chain_operations",
        "chain.operations",
        "What the chain's writer was asked to do.",
        sampled="when the writer has done it",
    ),
    _histogram(
        "chain_write",
        "chain.writing",
        "Time that the chain's writer takes for what it does in one go.",
        sampled="when the writer has done it",
    ),
    # Verification
    _counter(
        "verification_items",
        "chain{mixes_verified,transfers_validated}",
        "Proofs of work (mixes) and transfers verified.",
        label="kind",
        sampled="when they are handed to a thread",
    ),
    _gauge(
        "verification_debt",
        "chain.verifying",
        "Proofs of work and transfers that are being verified or wait for a thread.",
    ),
    _histogram(
        "verification_proof",
        "chain.proof_latency",
        "Time to verify one proof of work, in its thread.",
        sampled="when one is verified",
    ),
    _histogram(
        "verification_transfer",
        "chain.transfer_latency",
        "Time to validate one transfer, in its thread.",
        sampled="when one is validated",
    ),
    # The mempool
    _gauge("mempool_transfers", "status.mempool.transfers", "Transfers that wait.", "transfers"),
    _gauge("mempool_bytes", "status.mempool.bytes", "Bytes of the transfers that wait.", "bytes"),
    _gauge("mempool_capacity_bytes", "status.mempool.capacity", "Bytes that may wait.", "bytes"),
    _gauge("mempool_fees_grains", "status.mempool.fees", "Fees of all that wait.", "grains"),
    _gauge(
        "mempool_min_fee_rate",
        "status.mempool.min_fee_rate",
        "Grains per byte below which nothing is taken in.",
    ),
    # Peers
    _gauge("peers", "network.peers{inbound,outbound}", "Peers connected.", label="direction"),
    _gauge("peers_greeted", "network.peers.greeted", "Peers that speak the node's protocol."),
    _gauge(
        "peers_apart",
        "network.peers.apart",
        "Peers that said last that their tip is another one than this node's.",
    ),
    _gauge("peers_classical", "network.transport.classical", "Peers without a post-quantum link."),
    _gauge(
        "peers_known",
        "network.peers.book{new,tried}",
        "Addresses known, by whether a peer was ever met there.",
        label="table",
    ),
    _gauge("peers_banned", "network.peers.bans", "Bans that hold."),
    _counter(
        "peers_bans",
        "network.peers.bans_made",
        "Bans.",
        sampled="when a group of peers is banned",
    ),
    _counter(
        "peers_penalties",
        "network.peers.penalties",
        "Penalties by kind.",
        label="penalty",
        sampled="when a peer breaks a rule",
    ),
    _counter(
        "peers_dials",
        "network.peers{dials,dials_failed,probes}",
        "Dials, those that failed, and looks whether an address is good.",
        label="kind",
        sampled="when a dial ends",
    ),
    _gauge(
        "peers_clock_offset_seconds",
        "clock_offset_s",
        "By how much the peers' clocks are ahead of this one, their median; missing while few.",
        "seconds",
    ),
    # Gossip and requests
    _counter(
        "gossip_messages",
        "network.transport{gossip_published,gossip_received,gossip_duplicates}",
        "Gossip messages sent of one's own, and received, for the first time and again.",
        label="kind",
        sampled="when a message comes or goes",
    ),
    _counter(
        "gossip_outcomes",
        "network.transport{gossip_accepted,gossip_ignored,gossip_rejected,gossip_dropped}",
        "What became of gossip messages; dropped ones found a queue full.",
        label="outcome",
        sampled="when a message is judged",
    ),
    _counter(
        "relay_rules_broken",
        "network.relay.rules",
        "Rules that what peers sent broke.",
        label="rule",
        sampled="when something is rejected",
    ),
    _counter(
        "relay_bodies_fetched",
        "network.relay.bodies_fetched",
        "Bodies fetched from peers that announced an anchor.",
        sampled="when a body has come",
    ),
    _gauge("stem_held", "network.stem.held", "Transfers that travel along a stem.", "transfers"),
    _counter(
        "stem_transfers",
        "network.stem{handed_on,not_taken,fluffed,embargoes}",
        "What became of transfers in their stem.",
        "transfers",
        label="outcome",
        sampled="when a transfer goes on",
    ),
    _counter(
        "requests",
        "network.transport{requests_sent,requests_failed,requests_served,requests_refused}",
        "Requests to peers and by peers.",
        label="kind",
        sampled="when a request ends",
    ),
    _counter(
        "network_bytes",
        "network.transport{bytes_received,bytes_sent}",
        "Bytes between this node and its peers, encryption included.",
        "bytes",
        label="direction",
        sampled="when bytes come or go",
    ),
    _counter(
        "connections_refused",
        "network.transport{gate_refused,handshakes_failed,security_mismatches,connections_refused}",
        "Connections that came to nothing.",
        label="why",
        sampled="when a connection is refused",
    ),
    _counter(
        "transport_faults",
        "network.transport{faults,misbehaviours}",
        "Exceptions of this node's own handlers, and offences of peers against the transport.",
        label="kind",
        sampled="when one happens",
    ),
    # Sync
    _gauge(
        "sync_synced", "network.sync.synced", "1 if the chain is level with the peers', else 0."
    ),
    _gauge("sync_running", "network.sync.syncing", "1 while anchors are being fetched, else 0."),
    _gauge("sync_target_height", "network.sync.target_height", "Height being fetched.", "anchors"),
    _gauge("sync_lag", "sync_lag", "Anchors that are still to be fetched.", "anchors"),
    _gauge("sync_rate", "network.sync.rate", "Anchors per second that sync connects."),
    _gauge("sync_in_flight", "network.sync.in_flight", "Requests for bodies under way."),
    _counter(
        "sync_items",
        "network.sync{headers,bodies,votes,proofs_skipped}",
        "Headers read, bodies and votes fetched, proofs taken as verified.",
        label="kind",
        sampled="when they have come",
    ),
    # Mining
    _gauge("miner_hashes_per_second", "miner.rate", "Hash rate of this node over ten seconds."),
    _counter("miner_hashes", "miner.hashes", "Hashes made.", sampled="by each worker, each hash"),
    _gauge("miner_workers", "workers", "Workers by state.", label="state"),
    _counter(
        "miner_worker_restarts",
        "miner.restarts",
        "Worker processes that ended by themselves and were started again.",
        sampled="when a worker is lost",
    ),
    _gauge(
        "miner_job_delay_seconds",
        "job_delay_s",
        "Time that the present job took to reach the last worker that has it.",
        "seconds",
        sampled="when a worker takes a job",
    ),
    _gauge("miner_mining", "epochs.mining", "1 if there is something to mine on, else 0."),
    _counter("miner_jobs", "epochs.jobs", "Jobs given out.", sampled="when the template changes"),
    _counter(
        "miner_coins",
        "epochs{coins_found,anchors_found,coins_rejected}",
        "Coins found here, those of anchor grade, and those that the chain rejected.",
        "coins",
        label="kind",
        sampled="when a worker finds one",
    ),
    _gauge(
        "miner_coins_expected",
        "control.expected",
        "Coins that the hashes made so far were worth on average.",
        "coins",
    ),
    _gauge(
        "miner_coins_settled",
        "harvest{included,late,stray,waiting,lost}",
        "What has become of the coins found here.",
        "coins",
        label="fate",
        sampled="when the tip changes",
    ),
    _gauge("miner_earned_grains", "harvest.earned", "What they have earned.", "grains"),
    # The store
    _counter("store_calls", "store.calls", "Calls into the database.", sampled="at each call"),
    _counter(
        "store_batches",
        "store{batches,synced_batches}",
        "Batches written, and those of them that are synced.",
        label="kind",
        sampled="when a batch is written",
    ),
    _counter(
        "store_written_bytes",
        "store.bytes_written",
        "Bytes of keys and values written.",
        "bytes",
        sampled="when a batch is written",
    ),
    _histogram("store_read", "store.reading", "Time of single reads.", sampled="at one read in 64"),
    _histogram(
        "store_write",
        "store.writing",
        "Time of batches that are not synced.",
        sampled="when a batch is written",
    ),
    _histogram(
        "store_sync",
        "store.syncing",
        "Time of batches that are synced.",
        sampled="when a batch is written",
    ),
    _gauge("store_failed", "store.failed", "1 once a write has failed: nothing more is written."),
    # The event loop, threads and queues
    _histogram(
        "loop_turn",
        "loop.turns",
        "Time from one wait of the event loop to the next: what becomes ready waits as long.",
        sampled="at each turn of the loop",
    ),
    _counter("loop_steps", "loop.steps", "Steps of tasks.", sampled="at each step"),
    _counter(
        "loop_slow_steps",
        "slow_tasks",
        "Steps that held the event loop for more than 50 ms, by task.",
        label="task",
        sampled="when such a step ends",
    ),
    _gauge(
        "loop_longest_step_seconds",
        "loop.longest_ms",
        "The longest step since the start.",
        "seconds",
        scale=0.001,
        sampled="when such a step ends",
    ),
    _gauge("channel_used", "channels.used", "Items that wait in a queue.", label="channel"),
    _gauge("channel_capacity", "channels.capacity", "Items that may wait.", label="channel"),
    _counter(
        "channel_lost",
        "channels.lost",
        "Items that a full queue had no room for.",
        label="channel",
        sampled="when an item is lost",
    ),
    _gauge("threads_busy", "threads.busy", "Worker threads at work.", label="kind"),
    _gauge("threads_limit", "threads.limit", "Worker threads that may be.", label="kind"),
    _gauge("threads_waiting", "threads.waiting", "Work that waits for a thread.", label="kind"),
    _gauge("service_up", "services_up", "1 for a service that runs, else 0.", label="service"),
    _counter(
        "service_restarts",
        "restarts",
        "How often a service was started again after it failed.",
        label="service",
        sampled="when a service fails",
    ),
    # RPC
    _counter("rpc_requests", "rpc.requests", "Requests over HTTP.", sampled="when a request comes"),
    _counter(
        "rpc_rejected",
        "rpc.rejected",
        "Requests turned away before they were read.",
        label="error",
        sampled="when one is turned away",
    ),
    _counter(
        "rpc_calls",
        "rpc_calls",
        "Calls by method and how they ended; those of the rarer ones are summed up.",
        label="method,code",
        sampled="when a call ends",
    ),
    _counter(
        "rpc_failed_calls",
        "rpc_failed",
        "Calls that failed by a fault of the node's own.",
        sampled="when such a call ends",
    ),
    _histogram(
        "rpc_call",
        "rpc.latency",
        "Time of calls that do not wait for something to happen.",
        sampled="when a call ends",
    ),
    _gauge("rpc_connections", "rpc.connections.connections", "Connections to the RPC server."),
    _gauge("rpc_streams", "rpc.streams", "Event streams that are open."),
    # Wallets
    _gauge("wallets", "wallets{open,unlocked,behind}", "Wallets by state.", label="state"),
    _gauge(
        "wallet_scan_lag", "wallets.lag", "Anchors that the last wallet has to read.", "anchors"
    ),
    _counter(
        "wallet_anchors_read",
        "wallets.anchors_read",
        "Anchors that wallets have read.",
        sampled="when a wallet has read a chunk",
    ),
    _counter(
        "wallet_transfers",
        "wallets{sent,rebroadcast,refused}",
        "Transfers sent from here, sent again, and refused.",
        label="kind",
        sampled="when one is sent",
    ),
    # The log
    _counter("log_events", "log.events", "Events logged.", label="level", sampled="at each event"),
    _counter(
        "log_dropped",
        "log.dropped",
        "Events for which a queue had no room.",
        sampled="when one is dropped",
    ),
    _counter(
        "log_failed",
        "log.failed",
        "Events that could not be written, as on a full disk.",
        sampled="when one is lost",
    ),
    # Readiness
    _gauge("ready", "is_ready", "1 if the node can be relied upon, else 0."),
    _gauge("ready_criterion", "criteria", "1 for a criterion that is met.", label="criterion"),
    _gauge(
        "ready_value",
        "criteria_values",
        "The number that a criterion is judged by.",
        label="criterion",
    ),
    # The process
    _gauge("process_resident_bytes", "process.resident", "Resident memory.", "bytes"),
    _counter("process_cpu_seconds", "process.cpu_s", "CPU time of the node alone.", "seconds"),
    _gauge("process_threads", "process.threads", "Threads of the process."),
    _gauge("process_open_files", "process.open_files", "Open file descriptors."),
    _gauge("process_open_files_max", "process.open_files_max", "File descriptors allowed."),
    _gauge(
        "process_start_time_seconds",
        "process.began",
        "When the process began, since the Unix epoch.",
        "seconds",
        sampled="at the start",
    ),
    _gauge("machine_available_bytes", "process.machine_available", "Memory to be had.", "bytes"),
    _gauge("disk_free_bytes", "process.disk_free", "Room on the data directory's disk.", "bytes"),
    _gauge("disk_total_bytes", "process.disk_total", "Size of that disk.", "bytes"),
)
"""All metrics, by subject. `unchained_build_info` stands beside them: it names versions."""

BUILD_INFO: Final = "unchained_build_info"

Labelled = Mapping[tuple[str, ...], float]


def value_at(statistics: NodeStatistics, path: str) -> object:
    """Return what a path leads to, None where the node does not have it. A mapping on the way is
    followed for each of its keys."""
    value: object = statistics
    steps = path.split(".")
    for number, step in enumerate(steps):
        if value is None:
            return None
        if isinstance(value, Mapping):
            return {key: getattr(item, ".".join(steps[number:])) for key, item in value.items()}
        value = getattr(value, step)
    return value


def samples_of(metric: Metric, statistics: NodeStatistics) -> Labelled | LatencyStatistics:
    """Return a metric's values by the values of its labels, or the classes of a histogram; nothing
    where the node does not have what it shows."""
    path, _, inner = metric.path.partition("{")
    value = value_at(statistics, path)
    if value is None:
        return {}
    if isinstance(value, LatencyStatistics):
        return value
    if inner:
        names = inner.rstrip("}").split(",")
        return {(name,): _number(getattr(value, name), metric) for name in names}
    if isinstance(value, Mapping):
        pairs = {
            key if isinstance(key, tuple) else (str(key),): _number(number, metric)
            for key, number in value.items()
        }
        return _bounded(pairs, len(metric.labels))
    return {(): _number(value, metric)}


def _number(value: object, metric: Metric) -> float:
    assert isinstance(value, int | float), metric.name
    # What is true is 1. Integers stay what they are: a float does not hold them all.
    plain = int(value) if isinstance(value, bool) else value
    return plain if metric.scale == 1.0 else plain * metric.scale


def _bounded(pairs: dict[tuple[str, ...], float], width: int) -> Labelled:
    if len(pairs) <= LABEL_VALUES_MAX:
        return pairs
    # The first ones, whatever they have become: so what is shown apart stays so, and grows.
    in_order = list(pairs.items())
    kept = dict(in_order[: LABEL_VALUES_MAX - 1])
    rest = (OTHERS,) * width
    kept[rest] = kept.get(rest, 0) + sum(value for _, value in in_order[LABEL_VALUES_MAX - 1 :])
    return kept
