"""No step of a node's event loop is long: not at the start, nor in a scan, nor in a sync.

Steps are counted in calls of functions (tests.framework.loop_work): on an idle machine fifty
milliseconds, at which `loop.blocked` is told, are some 400,000 of them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.framework.processes import PATIENCE_S, NodeHome, NodeProcess

ROOT = Path(__file__).parents[2]
ANCHORS, COINS = 150, 4
CALLS_MAX = 40_000
"""A tenth of what would be told: machines differ."""

pytestmark = pytest.mark.slow


def started(home: NodeHome, name: str, *flags: str) -> tuple[NodeProcess, tuple[str, ...]]:
    """Start a node whose steps are counted; return it, and the flags that lead to it."""
    where = ("--network", "reg", "--data-dir", str(home.data_dir(name)))
    process = home.start(
        *("-m", "tests.framework.loop_work", str(home.path / f"{name}.json")),
        *("start", "--json", *where, *flags),
        program=[sys.executable],
        env={"PYTHONPATH": str(ROOT)},
    )
    process.wait_event("node.started", timeout_s=3 * PATIENCE_S)
    return process, where


def asked(home: NodeHome, *words: str) -> dict[str, object]:
    done = home.run(*words, "--json", timeout_s=5 * PATIENCE_S)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_no_step_of_the_loop_is_long(home: NodeHome) -> None:
    listen = ("--listen", "/ip4/127.0.0.1/tcp/0")
    first, one = started(home, "one", *listen)
    asked(home, "wallet", "create", "--no-passphrase", *one)
    asked(home, "mine", "generate", str(ANCHORS), "--coins", str(COINS), *one)
    asked(home, "wallet", "rescan", *one)
    home.run("wallet", "history", "--limit", "1000", "--json", *one)
    home.run("wallet", "coins", "--limit", "1000", "--json", *one)
    home.run("rpc", "rpc.discover", *one)
    home.run("node", "tasks", "--json", *one)
    listening = asked(home, "net", "info", *one)["addresses"]
    assert isinstance(listening, list)
    second, two = started(home, "two", "--bootstrap", listening[0])
    deadline = time.monotonic() + 5 * PATIENCE_S
    while asked(home, "chain", "tip", *two)["height"] != ANCHORS:
        assert time.monotonic() < deadline, "it does not catch up"
        time.sleep(0.5)
    for process, where in ((first, one), (second, two)):
        assert home.run("stop", *where).returncode == 0
        # What it counted is written last of all, after `stop` has its answer.
        assert process.wait() == 0
    for name in ("one", "two"):
        longest = json.loads((home.path / f"{name}.json").read_text())
        long = {task: found for task, found in longest.items() if found[0] > CALLS_MAX}
        assert long == {}, json.dumps(long, indent=1)
        assert longest
