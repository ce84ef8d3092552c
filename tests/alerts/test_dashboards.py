"""Prometheus reads every query of the dashboards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec

from tests.framework.alert_recorder import promtool
from unchained.node.observe.dashboards import queries


def test_every_query_is_one(tmp_path: Path) -> None:
    tool = promtool()
    assert tool is not None, "promtool is missing: scripts/test alerts installs it"
    rules = [
        {"record": f"unchained:query{number}", "expr": query}
        for number, query in enumerate(queries())
    ]
    path = tmp_path / "queries.json"
    path.write_bytes(msgspec.json.encode({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [tool, "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
