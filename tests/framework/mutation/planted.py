"""Planted bugs: patches that some test must find, each applied to a copy of its own.

A patch is a file tests/planted/NAME.patch whose first line says which bug it plants, and the rest
of which is a diff from the root of the project.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.framework.mutation.process import environment_for, kill_group
from tests.framework.mutation.tree_copy import copy_tree

FOLDER: Final = "tests/planted"
LOOKING: Final = ("tests/simulation", "tests/regressions")
"""What looks for planted bugs, unless another command is named."""
COMMAND_S_MAX: Final = 1800.0
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Finding:
    """Which patch was found by what ("" for none), after how many seconds."""

    patch: str
    bug: str
    found_by: str
    seconds: float


def patches(root: Path) -> list[Path]:
    """Return the patches of the project, by name."""
    return sorted((root / FOLDER).glob("*.patch"))


def default_command(root: Path) -> list[str]:
    """Return the command that runs the simulations and regressions there are."""
    folders = [name for name in LOOKING if (root / name).is_dir()]
    return [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-pno:cacheprovider", *folders]


def find_planted(
    root: Path,
    files: Sequence[Path],
    command: Sequence[str],
    scratch: Path,
    say: Callable[[Finding], None],
    limit_s: float = COMMAND_S_MAX,
) -> list[Finding]:
    """Run a command with each patch applied, and first with none: there it must succeed.

    Raises `ValueError` if it does not, or if a patch cannot be applied.
    """
    clean = _run(copy_tree(root, scratch / "clean"), command, limit_s)
    say(Finding("(none)", "the tree as it is", *clean))
    if clean[0]:
        raise ValueError(f"{clean[0]} fails without any patch")
    findings = []
    for file in files:
        bug = file.read_text().partition("\n")[0].strip()
        tree = copy_tree(root, scratch / file.stem)
        applied = subprocess.run(
            # Product files stand in unchained/, which links lead to; git follows none.
            ["git", "apply", "-p1", "--directory=unchained", str(file.resolve())],
            check=False,
            cwd=tree,
            capture_output=True,
            text=True,
            env=environment_for(tree) | {"GIT_CEILING_DIRECTORIES": str(tree.parent)},
        )
        if applied.returncode:
            raise ValueError(f"{file.name} cannot be applied: {applied.stderr.strip()}")
        findings.append(Finding(file.stem, bug, *_run(tree, command, limit_s)))
        say(findings[-1])
        shutil.rmtree(tree)
    return findings


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as a table in Markdown."""
    rows = ["| patch | bug | found by | seconds |", "|---|---|---|---|"]
    rows += [
        f"| {each.patch} | {each.bug} | {each.found_by or 'nothing'} | {each.seconds:.0f} |"
        for each in findings
    ]
    return "\n".join(rows)


def _run(tree: Path, command: Sequence[str], limit_s: float) -> tuple[str, float]:
    """Return which test failed, or how else the command did, and its time; "" if it did not."""
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment_for(tree),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"no end within {limit_s:.0f} s", time.monotonic() - start
    finally:
        kill_group(process.pid)
        process.wait()
    taken = time.monotonic() - start
    if process.returncode == 0:
        return "", taken
    failed = _FAILED.search(output)
    return (failed[1] if failed else f"exit code {process.returncode}"), taken
