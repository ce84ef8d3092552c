"""A real node shows every metric that rules and dashboards ask for, and how else it is seen."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.framework.alert_recorder import names_in
from tests.framework.processes import NodeHome, clean_environment, node_program
from tests.framework.terminal import on_terminal
from unchained.node.observe.alerts import ALERTS
from unchained.node.observe.dashboards import queries
from unchained.node.observe.metric_table import METRICS

ONLY_WITH_PEERS = {
    "unchained_peers_clock_offset_seconds",
    "unchained_peers_penalties_total",
    "unchained_relay_rules_broken_total",
}
"""What a node shows once it has peers, or a peer has done something wrong."""

ONLY_ONCE_SEEN = {
    "unchained_loop_slow_steps_total",
    "unchained_rpc_rejected_total",
    "unchained_miner_job_delay_seconds",
}
"""What is not there before it has happened."""


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def test_a_running_node_is_seen_in_every_way(home: NodeHome) -> None:
    node = home.start(
        "--workers", "1", "--rpc-listen", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0"
    )
    url = str(node.wait_event("rpc.listening")["url"])
    anchor = str(node.wait_event("anchor.connected", timeout_s=240)["id"])
    data_dir = str(home.data_dir())

    def command(*arguments: str) -> str:
        done = home.run(*arguments, "--data-dir", data_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert command("status")
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(fetch(f"{url}/metrics")):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            samples[sample.name] = sample.value
    assert len(samples) > 100
    shown = {name.removesuffix("_bucket") for name in samples}
    missing = {metric.name for metric in METRICS} - shown
    assert sorted(missing - ONLY_WITH_PEERS - ONLY_ONCE_SEEN) == []
    asked = {name for text in (*queries(), *(a.expr for a in ALERTS)) for name in names_in(text)}
    assert asked - shown <= ONLY_WITH_PEERS | ONLY_ONCE_SEEN
    assert samples["unchained_chain_height"] >= 1
    assert samples["unchained_process_resident_bytes"] > 10e6

    ready = json.loads(fetch(f"{url}/readyz"))
    assert {criterion["name"] for criterion in ready["criteria"]} == set(ready["checks"])
    assert json.loads(fetch(f"{url}/healthz"))["turn_seconds"] >= 0
    series = json.loads(command("rpc", "node.series", 'names=["height","memory"]'))
    assert series["values"]["memory"][0] > 10e6

    assert "ok  node" in command("doctor")
    tasks = command("tasks")
    assert "chain.writer" in tasks
    assert "queues" in tasks
    trace = json.loads(command("node", "trace", "--seconds", "0.5", "--json"))
    assert Path(trace["path"]).parent == Path(data_dir)
    assert json.loads(Path(trace["path"]).read_text())["traceEvents"]
    assert command("node", "log-level", "debug", "--subsystem", "chain").strip() == "debug"
    assert command("node", "log-level").strip() == "info"
    story = command("logs", "--anchor", anchor[:12])
    assert "anchor.connected" in story
    assert node.stop() == 0
    assert node.errors == []


def test_the_tasks_are_shown_as_they_go_on(home: NodeHome) -> None:
    node = home.start("--network", "reg")
    node.wait_event("node.started")
    env = clean_environment(home.path) | {"TERM": "xterm-256color"}
    watch = [node_program(), "tasks", "--watch", "--data-dir", str(home.data_dir())]
    with on_terminal(watch, env, rows=100) as terminal:
        terminal.wait_text("chain.writer")
        # The same again, a moment later, in the same place.
        terminal.wait_text("chain.writer", len(terminal.text))
        terminal.type("\x03")
        assert terminal.wait() == 1
        assert "interrupted" in terminal.text
        assert terminal.restored
    assert node.stop() == 0
