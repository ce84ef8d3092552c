"""Planted bugs: patches that some test must find, each applied to a copy of its own.

A patch is a file tests/planted/NAME.patch. Its first line says which bug it plants, its second
which tests look for it ("Looked for by: PATH..."), and the rest is a diff from the root of the
project.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.framework.mutation.process import environment_for
from tests.framework.mutation.tree_copy import copy_tree
from tests.framework.watched import run_watched
from unchained.node.base.number_words import number_of

FOLDER: Final = "tests/planted"
LOOKED_FOR_BY: Final = "Looked for by: "
COMMAND_S_MAX: Final = 1800.0
FAULTS_MAX: Final = 10
"""Faults that a simulation which finds a planted bug is cut down to, at most."""
SHRINK_TRIES: Final = 40
UNCOLLECTED: Final = "exit code"
"""How `_run` names what has failed without any test that has."""
NO_PATCH: Final = "(none)"
"""How what is found in the tree as it is stands among what is found with a patch."""
_SHARE: Final = re.compile(r"\[ *(\d+)%\]")
_FAILED: Final = re.compile(r"^(?:FAILED (\S+)|ERROR (\S+::\S+))", re.MULTILINE)
_CUT_DOWN: Final = re.compile(
    r"^ *scenario (\S+), seed (\d+), cut down to (\d+) faults?\b", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Which patch was found by what ("" for none), after how many seconds; where a simulation
    found it, which, and how many faults were left of it."""

    patch: str
    bug: str
    found_by: str
    seconds: float
    simulation: str = ""
    faults: int = 0

    @property
    def is_good(self) -> bool:
        """Whether it was found, with few faults if by a simulation."""
        return bool(self.found_by) and self.faults <= FAULTS_MAX

    def __str__(self) -> str:
        cut = f" ({self.simulation}: {self.faults} faults left)" if self.simulation else ""
        found = self.found_by or ("all pass" if self.patch == NO_PATCH else "nothing")
        return f"{self.patch}: {found}{cut}, {self.seconds:.0f} s"


def patches(root: Path) -> list[Path]:
    """Return the patches of the project, by name."""
    return sorted((root / FOLDER).glob("*.patch"))


def bug_of(patch: Path) -> str:
    """Return which bug a patch plants."""
    return patch.read_text().partition("\n")[0].strip()


def tests_for(patch: Path) -> list[str]:
    """Return the paths of the tests that look for a planted bug. Raises `ValueError`."""
    lines = patch.read_text().splitlines()
    if len(lines) < 2 or not lines[1].startswith(LOOKED_FOR_BY):
        raise ValueError(f"the second line of {patch.name} is not {LOOKED_FOR_BY}PATH...")
    return lines[1].removeprefix(LOOKED_FOR_BY).split()


def run_tests(paths: Sequence[str]) -> list[str]:
    """Return the command that runs some tests until one fails."""
    return [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-pno:cacheprovider", *paths]


def plant(root: Path, patch: Path, into: Path) -> Path:
    """Copy what tests need of a project, with a bug planted; return `into`.

    Raises `ValueError` if the patch does not fit.
    """
    tree = copy_tree(root, into)
    applied = subprocess.run(
        # Product files stand in unchained/, which links lead to; git follows none.
        ["git", "apply", "-p1", "--directory=unchained", str(patch.resolve())],
        check=False,
        cwd=tree,
        capture_output=True,
        text=True,
        env=environment_for(tree) | {"GIT_CEILING_DIRECTORIES": str(tree.parent)},
    )
    if applied.returncode:
        raise ValueError(f"{patch.name} cannot be applied: {applied.stderr.strip()}")
    return tree


def find_planted(
    root: Path,
    files: Sequence[Path],
    command: Sequence[str],
    scratch: Path,
    say: Callable[[Finding], None],
    tell: Callable[[str], None],
    limit_s: float = COMMAND_S_MAX,
) -> list[Finding]:
    """Run with each patch applied the tests that it names, or a `command` if there is one; first
    with no patch: there all must succeed. `say` is given what was found, `tell` what begins and,
    every ten seconds, how far it is.

    Raises `ValueError` if they do not, if a patch cannot be applied, or if its tests cannot be
    collected with it.
    """
    paths = sorted({path for file in files for path in tests_for(file)} if not command else ())
    looks = shlex.join(command) if command else number_of(len(paths), "test file")
    tell(f"{NO_PATCH}: the tree as it is, which must pass: {looks}, {limit_s / 60:.0f} min at most")
    clean = _run(
        NO_PATCH, copy_tree(root, scratch / "clean"), command or run_tests(paths), limit_s, tell
    )
    say(Finding(NO_PATCH, "the tree as it is", *clean))
    if clean[0]:
        raise ValueError(f"{clean[0]} fails without any patch")
    findings = []
    for number, file in enumerate(files, 1):
        tree = plant(root, file, scratch / file.stem)
        tell(f"{file.stem}: {bug_of(file)} (patch {number} of {len(files)})")
        found = _run(file.stem, tree, command or run_tests(tests_for(file)), limit_s, tell)
        if not command and found[0].startswith(UNCOLLECTED):
            raise ValueError(f"{file.name}: its tests end with {found[0]}")
        findings.append(Finding(file.stem, bug_of(file), *found))
        say(findings[-1])
        shutil.rmtree(tree)
    return findings


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as a table in Markdown."""
    rows = [
        "| patch | bug | found by | simulation | faults left | seconds |",
        "|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {each.patch} | {each.bug} | {each.found_by or 'nothing'} | {each.simulation} "
        f"| {each.faults if each.simulation else ''} | {each.seconds:.0f} |"
        for each in findings
    ]
    return "\n".join(rows)


def _run(
    name: str, tree: Path, command: Sequence[str], limit_s: float, tell: Callable[[str], None]
) -> tuple[str, float, str, int]:
    """Return which test failed, or how else the command did, and its time, "" if it did not; and
    the simulation that failed, with how many faults it was cut down to."""

    def show(taken: float, output: str) -> None:
        shares = _SHARE.findall(output)
        far = f", {shares[-1]} % of the tests are through" if shares else ""
        tell(f"{name}: {taken:.0f} s{far}")

    start = time.monotonic()
    try:
        code, output = run_watched(
            command,
            show,
            cwd=tree,
            env=environment_for(tree) | {"UNCHAINED_SHRINK_TRIES": str(SHRINK_TRIES)},
            limit_s=limit_s,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {limit_s:.0f} s", time.monotonic() - start, "", 0
    taken = time.monotonic() - start
    if code == 0:
        return "", taken, "", 0
    failed, cut = _FAILED.search(output), _CUT_DOWN.search(output)
    by = f"{UNCOLLECTED} {code}" if failed is None else failed[1] or failed[2]
    return by, taken, *(("", 0) if cut is None else (f"{cut[1]} {cut[2]}", int(cut[3])))
