"""CPU seconds that commands take before they do anything, against ``python -c pass``.

What a shell waits for at each word: help, the version, completion, and a question to a node (here
one that is not running, which the command finds out last). The least of several runs counts: what
is above it belongs to the machine's other work. Beside them, seconds until `dev` is ready.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench._result import result

RUNS = 9
AT_ONCE = 0.15
"""Goal of what a person or a shell asks while typing."""
READY = 2.0
READY_RUNS = 5
ONE_QUESTION = 0.25
"""Goal of what asks a node once."""

COMPLETION = {
    "_UNCHAINED_NODE_COMPLETE": "complete_bash",
    "COMP_WORDS": "unchained-node wal",
    "COMP_CWORD": "1",
}
COMMANDS: Sequence[tuple[str, tuple[str, ...], Mapping[str, str], float]] = [
    ("cli_help", ("--help",), {}, AT_ONCE),
    ("cli_version", ("--version",), {}, AT_ONCE),
    ("cli_completion", (), COMPLETION, AT_ONCE),
    ("cli_status", ("status",), {}, ONE_QUESTION),
    ("cli_balance", ("wallet", "balance"), {}, ONE_QUESTION),
]
MAIN = "import sys; from unchained.node.cli.main import main; main()"


def run() -> list[dict[str, object]]:
    """Run every command, by turns."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        bare: list[float] = []
        seconds: dict[str, list[float]] = {row: [] for row, _, _, _ in COMMANDS}
        for _ in range(RUNS):
            bare.append(_cpu(("pass",), {}, home))
            for row, words, env, _ in COMMANDS:
                seconds[row].append(_cpu((MAIN, *words), env, home))
        ready = [_until_ready(home) for _ in range(READY_RUNS)]
    return [
        result(
            "dev_ready",
            "s",
            ready,
            reference="python -c pass",
            reference_values=[min(bare)],
            goal=READY,
            at_least=False,
        ),
        *_rows(seconds, bare),
    ]


def _until_ready(home: Path) -> float:
    """Return the seconds from the start of `dev` until its wallets are funded."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "dev"],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert any(line.startswith("ready: ") for line in process.stdout), "it ended before"
        return time.perf_counter() - begun
    finally:
        process.terminate()
        process.communicate()


def _rows(seconds: Mapping[str, Sequence[float]], bare: Sequence[float]) -> list[dict[str, object]]:
    return [
        result(
            row,
            "s of CPU",
            [min(seconds[row])],
            reference="python -c pass",
            reference_values=[min(bare)],
            goal=goal,
            at_least=False,
        )
        for row, _, _, goal in COMMANDS
    ]


def _cpu(words: Sequence[str], env: Mapping[str, str], home: Path) -> float:
    """Return the seconds of CPU that Python takes for a program and its arguments."""
    process = subprocess.Popen(
        [sys.executable, "-c", *words],
        env={"HOME": str(home), "PATH": os.environ["PATH"], **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_utime + used.ru_stime
