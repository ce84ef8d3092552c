"""CPU seconds that commands take before they do anything, against ``python -c pass``.

What a shell waits for at each word: help, the version, completion, and a question to a node (here
one that is not running, which the command finds out last). The least of several runs counts: what
is above it belongs to the machine's other work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench._result import result

RUNS = 9
AT_ONCE = 0.15
"""Goal of what a person or a shell asks while typing."""
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
