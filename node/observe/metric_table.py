"""The table of metrics: one row for each, from which the page, its documentation, and the checks
of rules and dashboards are made.
"""

from __future__ import annotations

from typing import Final

from unchained.node.observe.chain_metrics import CHAIN_METRICS
from unchained.node.observe.metric import Metric, counter, gauge, histogram
from unchained.node.observe.network_metrics import NETWORK_METRICS

BUILD_INFO: Final = "unchained_build_info"
"""Stands beside the table: it names versions."""

OWN_METRICS: Final[tuple[Metric, ...]] = (
    # Mining
    gauge("miner_hashes_per_second", "miner.rate", "Hash rate of this node over ten seconds."),
    counter("miner_hashes", "miner.hashes", "Hashes made.", sampled="by each worker, each hash"),
    gauge("miner_workers", "workers", "Workers by state.", label="state"),
    counter(
        "miner_worker_restarts",
        "miner.restarts",
        "Worker processes that ended by themselves and were started again.",
        sampled="when a worker is lost",
    ),
    gauge(
        "miner_job_delay_seconds",
        "job_delay_s",
        "Time that the present job took to reach the last worker that has it.",
        "seconds",
        sampled="when a worker takes a job",
    ),
    gauge("miner_mining", "epochs.mining", "1 if there is something to mine on, else 0."),
    counter("miner_jobs", "epochs.jobs", "Jobs given out.", sampled="when the template changes"),
    counter(
        "miner_coins",
        "epochs{coins_found,anchors_found,coins_rejected}",
        "Coins found here, those of anchor grade, and those that the chain rejected.",
        "coins",
        label="kind",
        sampled="when a worker finds one",
    ),
    gauge(
        "miner_coins_expected",
        "control.expected",
        "Coins that the hashes made so far were worth on average.",
        "coins",
    ),
    gauge(
        "miner_coins_settled",
        "harvest{included,late,stray,waiting,lost}",
        "What has become of the coins found here.",
        "coins",
        label="fate",
        sampled="when the tip changes",
    ),
    gauge("miner_earned_grains", "harvest.earned", "What they have earned.", "grains"),
    # The store
    counter("store_calls", "store.calls", "Calls into the database.", sampled="at each call"),
    counter(
        "store_batches",
        "store{batches,synced_batches}",
        "Batches written, and those of them that are synced.",
        label="kind",
        sampled="when a batch is written",
    ),
    counter(
        "store_written_bytes",
        "store.bytes_written",
        "Bytes of keys and values written.",
        "bytes",
        sampled="when a batch is written",
    ),
    histogram("store_read", "store.reading", "Time of single reads.", sampled="at one read in 64"),
    histogram(
        "store_write",
        "store.writing",
        "Time of batches that are not synced.",
        sampled="when a batch is written",
    ),
    histogram(
        "store_sync",
        "store.syncing",
        "Time of batches that are synced.",
        sampled="when a batch is written",
    ),
    gauge("store_failed", "store.failed", "1 once a write has failed: nothing more is written."),
    # The event loop, threads and queues
    histogram(
        "loop_turn",
        "loop.turns",
        "Time from one wait of the event loop to the next: what becomes ready waits as long.",
        sampled="at each turn of the loop",
    ),
    counter("loop_steps", "loop.steps", "Steps of tasks.", sampled="at each step"),
    counter(
        "loop_slow_steps",
        "slow_tasks",
        "Steps that held the event loop for more than 50 ms, by task; `waiting`: those that worked "
        "less and waited, as on a busy machine.",
        label="task",
        sampled="when such a step ends",
    ),
    gauge(
        "loop_longest_step_seconds",
        "loop.longest_ms",
        "The longest step since the start.",
        "seconds",
        scale=0.001,
        sampled="when such a step ends",
    ),
    gauge("channel_used", "channels.used", "Items that wait in a queue.", label="channel"),
    gauge("channel_capacity", "channels.capacity", "Items that may wait.", label="channel"),
    counter(
        "channel_lost",
        "channels.lost",
        "Items that a full queue had no room for.",
        label="channel",
        sampled="when an item is lost",
    ),
    gauge("threads_busy", "threads.busy", "Worker threads at work.", label="kind"),
    gauge("threads_limit", "threads.limit", "Worker threads that may be.", label="kind"),
    gauge("threads_waiting", "threads.waiting", "Work that waits for a thread.", label="kind"),
    gauge("service_up", "services_up", "1 for a service that runs, else 0.", label="service"),
    counter(
        "service_restarts",
        "restarts",
        "How often a service was started again after it failed.",
        label="service",
        sampled="when a service fails",
    ),
    # RPC
    counter("rpc_requests", "rpc.requests", "Requests over HTTP.", sampled="when a request comes"),
    counter(
        "rpc_rejected",
        "rpc.rejected",
        "Requests turned away before they were read.",
        label="error",
        sampled="when one is turned away",
    ),
    counter(
        "rpc_calls",
        "rpc_calls",
        "Calls by method and how they ended; those of the rarer ones are summed up.",
        label="method,code",
        sampled="when a call ends",
    ),
    counter(
        "rpc_failed_calls",
        "rpc_failed",
        "Calls that failed by a fault of the node's own.",
        sampled="when such a call ends",
    ),
    histogram(
        "rpc_call",
        "rpc.latency",
        "Time of calls that do not wait for something to happen.",
        sampled="when a call ends",
    ),
    gauge("rpc_connections", "rpc.connections.connections", "Connections to the RPC server."),
    gauge("rpc_streams", "rpc.streams", "Event streams that are open."),
    # Wallets
    gauge("wallets", "wallets{open,unlocked,behind}", "Wallets by state.", label="state"),
    gauge("wallet_scan_lag", "wallet_lag", "Anchors that the last wallet has to read.", "anchors"),
    counter(
        "wallet_anchors_read",
        "wallets.anchors_read",
        "Anchors that wallets have read.",
        sampled="when a wallet has read a chunk",
    ),
    counter(
        "wallet_transfers",
        "wallets{sent,rebroadcast,refused}",
        "Transfers sent from here, sent again, and refused.",
        label="kind",
        sampled="when one is sent",
    ),
    # The log
    counter("log_events", "log.events", "Events logged.", label="level", sampled="at each event"),
    counter(
        "log_dropped",
        "log.dropped",
        "Events for which a queue had no room.",
        sampled="when one is dropped",
    ),
    counter(
        "log_failed",
        "log.failed",
        "Events that could not be written, as on a full disk.",
        sampled="when one is lost",
    ),
    # Readiness
    gauge("ready", "is_ready", "1 if the node can be relied upon, else 0."),
    gauge("ready_criterion", "criteria", "1 for a criterion that is met.", label="criterion"),
    gauge(
        "ready_value",
        "criteria_values",
        "The number that a criterion is judged by.",
        label="criterion",
    ),
    # The process
    gauge("process_resident_bytes", "process.resident", "Resident memory.", "bytes"),
    counter("process_cpu_seconds", "process.cpu_s", "CPU time of the node alone.", "seconds"),
    gauge("process_threads", "process.threads", "Threads of the process."),
    gauge("process_open_files", "process.open_files", "Open file descriptors."),
    gauge("process_open_files_max", "process.open_files_max", "File descriptors allowed."),
    gauge(
        "process_start_time_seconds",
        "process.began",
        "When the process began, since the Unix epoch.",
        "seconds",
        sampled="at the start",
    ),
    gauge("machine_available_bytes", "process.machine_available", "Memory to be had.", "bytes"),
    gauge("disk_free_bytes", "process.disk_free", "Room on the data directory's disk.", "bytes"),
    gauge("disk_total_bytes", "process.disk_total", "Size of that disk.", "bytes"),
)
"""Of the node's own work: mining, the store, the loop, RPC, wallets, the log, the process."""

METRICS: Final = (*CHAIN_METRICS, *NETWORK_METRICS, *OWN_METRICS)
"""All metrics, by subject."""
