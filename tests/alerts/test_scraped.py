"""Prometheus scrapes a node by the very files that the compose profile `observe` mounts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.framework.alert_recorder import prometheus
from tests.framework.network import free_port, until
from tests.framework.processes import NodeHome
from unchained.node.observe.alerts import ALERTS

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.71"
"""Where the names of the compose file lead, so that port 8645 is free there."""
NAMES = ("node1", "node2", "node3", "node4")
OF_ETC = ("passwd", "group", "nsswitch.conf", "ld.so.cache")


@pytest.mark.skipif(os.geteuid() != 0, reason="files are mounted, which takes root")
def test_the_files_that_compose_mounts_let_prometheus_find_its_nodes(
    home: NodeHome, tmp_path: Path
) -> None:
    tool = prometheus()
    assert tool is not None, "prometheus is missing: scripts/test alerts installs it"
    node = home.start(
        "--network", "reg", "--rpc-listen", f"{HOST}:8645",
        "--set", f"rpc.names={','.join(NAMES)}", "--set", "rpc.open_read=true",
    )  # fmt: skip
    node.wait_event("node.started")
    etc = tmp_path / "etc"
    (etc / "prometheus").mkdir(parents=True)
    for name in OF_ETC:
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), etc / name)
    (etc / "hosts").write_text("".join(f"{HOST} {name}\n" for name in NAMES))
    port = free_port()
    script = 'mount --bind "$1" /etc && mount --bind "$2" /etc/prometheus && shift 2 && exec "$@"'
    server = subprocess.Popen(
        [
            "unshare", "--mount", "sh", "-c", script, "sh",
            str(etc), str(ROOT / "packaging/prometheus"),
            tool, "--config.file=/etc/prometheus/prometheus.yml",
            f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}") as answer:
                return json.load(answer)["data"]
        except OSError:
            return None  # it does not listen yet

    def health() -> dict[str, str]:
        found = ask("targets") or {"activeTargets": []}
        return {one["labels"]["instance"]: one["health"] for one in found["activeTargets"]}

    def shown() -> set[str]:
        heights = ask("query?query=unchained_chain_height")["result"]
        return {one["metric"]["instance"] for one in heights}

    try:
        wanted = {f"{name}:8645": "up" for name in NAMES}
        until(lambda: health() == wanted, "every target is scraped", within_s=120)
        until(lambda: shown() == set(wanted), "what was scraped is shown", within_s=60)
        rules = [rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]]
        assert {alert.name for alert in ALERTS} <= set(rules)
    finally:
        server.terminate()
        assert server.wait(60) == 0
    assert node.stop() == 0
