"""Grafana's dashboards, from tables: network, node, mining, internals.

Made by ``python -m unchained.node.observe.dashboards``, which writes packaging/grafana.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

DASHBOARDS: Final = "packaging/grafana"

WIDTH: Final = 24
"""Columns of Grafana's grid."""

PANEL_WIDTH, PANEL_HEIGHT = 8, 7

CHOSEN: Final = '{job="unchained",instance=~"$instance"}'
"""Chooses the nodes that the dashboard's reader has chosen."""


class Panel(msgspec.Struct, frozen=True):
    """One picture: queries, with `$NODE` for the chosen nodes, and how their lines are called."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _one(title: str, query: str, unit: str = "short", legend: str = "{{instance}}") -> Panel:
    return Panel(title, unit, ((query, legend),))


def _rate(title: str, metric: str, unit: str = "ops", legend: str = "{{instance}}") -> Panel:
    return _one(title, f"rate({metric}$NODE[5m])", unit, legend)


def _quantiles(title: str, metric: str) -> Panel:
    rate = f"sum by (instance, le) (rate({metric}_bucket$NODE[5m]))"
    return Panel(
        title,
        "s",
        (
            (f"histogram_quantile(0.5, {rate})", "{{instance}} median"),
            (f"histogram_quantile(0.99, {rate})", "{{instance}} p99"),
        ),
    )


BOARDS: Final[Mapping[str, tuple[Panel, ...]]] = {
    "network": (
        _one("Height", "unchained_chain_height$NODE"),
        _one("Tip as a number: apart is forked", "unchained_chain_tip_number$NODE"),
        _one("Age of the tip", "unchained_chain_tip_age_seconds$NODE", "s"),
        _one("Hash rate of the network", "unchained_chain_hashes_per_second$NODE", "H/s"),
        _one("Difficulty", "unchained_chain_difficulty_hashes$NODE"),
        _quantiles("Time between anchors", "unchained_chain_epoch_interval_seconds"),
        _rate(
            "Coins included", "unchained_chain_coins_included_total", legend="{{instance}} {{kind}}"
        ),
        _rate("Anchors undone", "unchained_chain_anchors_disconnected_total"),
        _one("Last reorganisation", "unchained_chain_reorg_last_depth$NODE"),
        _one("Anchors on other branches", "unchained_chain_side_anchors$NODE"),
        _one("Mempool", "unchained_mempool_bytes$NODE", "bytes"),
        _one("Least fee rate", "unchained_mempool_min_fee_rate$NODE"),
    ),
    "node": (
        _one("Ready", "unchained_ready$NODE"),
        _one("Criteria", "unchained_ready_criterion$NODE", legend="{{instance}} {{criterion}}"),
        _one("Peers", "unchained_peers$NODE", legend="{{instance}} {{direction}}"),
        _one("Peers on another chain", "unchained_peers_apart$NODE"),
        _quantiles("Peers' answers", "unchained_peers_latency_seconds"),
        _one("Bans", "unchained_peers_banned$NODE"),
        _one("Clocks of the peers", "unchained_peers_clock_offset_seconds$NODE", "s"),
        _rate("Traffic", "unchained_network_bytes_total", "Bps", "{{instance}} {{direction}}"),
        _rate("Gossip", "unchained_gossip_outcomes_total", legend="{{instance}} {{outcome}}"),
        _one("Anchors to fetch", "unchained_sync_lag$NODE"),
        _one("Anchors the last wallet has to read", "unchained_wallet_scan_lag$NODE"),
        _one("Memory", "unchained_process_resident_bytes$NODE", "bytes"),
        _one("Room on the disk", "unchained_disk_free_bytes$NODE", "bytes"),
    ),
    "mining": (
        _one("Hash rate", "unchained_miner_hashes_per_second$NODE", "H/s"),
        _one("Workers", "unchained_miner_workers$NODE", legend="{{instance}} {{state}}"),
        Panel(
            "Coins: found and expected",
            "short",
            (
                ('unchained_miner_coins_total{kind="coins_found",job="unchained"}', "found"),
                ("unchained_miner_coins_expected$NODE", "{{instance}} expected"),
            ),
        ),
        _one(
            "What became of them",
            "unchained_miner_coins_settled$NODE",
            legend="{{instance}} {{fate}}",
        ),
        _one("Earned", "unchained_miner_earned_grains$NODE / 1e8"),
        _one("Time for a job to reach the workers", "unchained_miner_job_delay_seconds$NODE", "s"),
        _rate("Crashes of workers", "unchained_miner_worker_restarts_total"),
    ),
    "internals": (
        _quantiles("Turn of the event loop", "unchained_loop_turn_seconds"),
        _rate("Slow steps", "unchained_loop_slow_steps_total", legend="{{instance}} {{task}}"),
        _one(
            "Queues",
            "unchained_channel_used$NODE / unchained_channel_capacity$NODE",
            "percentunit",
            "{{instance}} {{channel}}",
        ),
        _one("Threads at work", "unchained_threads_busy$NODE", legend="{{instance}} {{kind}}"),
        _one("Work that waits", "unchained_threads_waiting$NODE", legend="{{instance}} {{kind}}"),
        _one("Verification debt", "unchained_verification_debt$NODE"),
        _quantiles("Proof of work", "unchained_verification_proof_seconds"),
        _quantiles("Writer", "unchained_chain_write_seconds"),
        _quantiles("Synced batches", "unchained_store_sync_seconds"),
        _quantiles("Reads", "unchained_store_read_seconds"),
        _rate("Calls into the database", "unchained_store_calls_total"),
        _rate("RPC", "unchained_rpc_calls_total", legend="{{instance}} {{method}} {{code}}"),
        _quantiles("RPC calls", "unchained_rpc_call_seconds"),
        _rate("CPU", "unchained_process_cpu_seconds_total", "percentunit"),
        _rate("Events lost by the log", "unchained_log_dropped_total"),
    ),
}
"""Every dashboard's panels, by its name."""


def queries() -> list[str]:
    """Return every query, for all nodes."""
    return [
        query.replace("$NODE", '{job="unchained"}')
        for panels in BOARDS.values()
        for panel in panels
        for query, _ in panel.queries
    ]


def dashboard(name: str) -> bytes:
    """Return a dashboard as Grafana imports it."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": panel.title,
            "datasource": source,
            "gridPos": {
                "x": number * PANEL_WIDTH % WIDTH,
                "y": number * PANEL_WIDTH // WIDTH * PANEL_HEIGHT,
                "w": PANEL_WIDTH,
                "h": PANEL_HEIGHT,
            },
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "expr": query.replace("$NODE", CHOSEN),
                    "legendFormat": legend,
                    "datasource": source,
                }
                for place, (query, legend) in enumerate(panel.queries)
            ],
        }
        for number, panel in enumerate(BOARDS[name])
    ]
    board = {
        "uid": f"unchained-{name}",
        "title": f"Unchained: {name}",
        "tags": ["unchained"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "type": "query",
                    "datasource": source,
                    "query": "label_values(unchained_chain_height, instance)",
                    "multi": True,
                    "includeAll": True,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels,
    }
    return msgspec.json.format(msgspec.json.encode(board), indent=1) + b"\n"


def write(root: Path) -> None:
    """Write all dashboards under the root of the project."""
    (root / DASHBOARDS).mkdir(parents=True, exist_ok=True)
    for name in BOARDS:
        (root / DASHBOARDS / f"{name}.json").write_bytes(dashboard(name))


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
