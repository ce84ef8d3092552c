"""What is mutated, room by room, and which mutants must not survive."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from tests.framework.mutation.mutants import Mutant, mutants_of

ROOMS: Final[Mapping[str, tuple[str, ...]]] = {
    "consensus": ("node/consensus/*.py",),
    "chain": ("node/chain/**/*.py",),
    "storage": ("storage/*.py",),
    "crypto": (
        "node/crypto/merkle.py",
        "node/crypto/*range*.py",
    ),
    "primitives": ("node/primitives/*.py",),
}
"""The files of each room; of crypto, what commits to sets and histories."""

AROUND_THE_CHAIN: Final = (
    "coin_proofs.py",
    "*_reads.py",
    "*queries.py",
    "answers.py",
    "export.py",
    "fee_estimate.py",
    "importer.py",
    "journal.py",
    "opened_chain.py",
    "remains.py",
    "results.py",
    "service.py",
    "status.py",
    "step_counts.py",
    "step_log.py",
    "template.py",
    "verifier.py",
    "view.py",
    "writer.py",
)
"""What in the chain neither counts, connects, undoes nor keeps transfers. All else there is held
to the strict rule, so that a new file is as well."""


def files_of(root: Path, rooms: Iterable[str] = ROOMS) -> dict[str, str]:
    """Return the files of some rooms, relative to the root, each with its room."""
    found: dict[str, str] = {}
    for room in rooms:
        for pattern in ROOMS[room]:
            for path in sorted(root.glob(pattern)):
                found[str(path.relative_to(root))] = room
    return found


def room_of(file: str) -> str:
    """Return the room of a file that is mutated."""
    for room, patterns in ROOMS.items():
        if any(fnmatch(file, pattern.replace("**/", "*")) for pattern in patterns):
            return room
    raise ValueError(f"{file} is in no room that is mutated")


def is_strict(file: str) -> bool:
    """Return whether a mutant of this file may survive only for a reason that is written down."""
    room = room_of(file)
    if room == "chain":
        name = file.removeprefix("node/chain/")
        return not any(fnmatch(name, pattern) for pattern in AROUND_THE_CHAIN)
    return room == "consensus"


def all_mutants(root: Path, files: Iterable[str]) -> list[Mutant]:
    """Return the mutants of some files, in order."""
    return [mutant for file in files for mutant in mutants_of(file, (root / file).read_text())]


def default_revision(root: Path) -> str:
    """Return what a branch is compared with: where it left main, or on main the commit before."""
    base = _git(root, "merge-base", "HEAD", "main", check=False).strip()
    head = _git(root, "rev-parse", "HEAD").strip()
    return base if base and base != head else "HEAD~1"


def changed_lines(root: Path, revision: str) -> dict[str, set[int]]:
    """Return the lines of the working tree that are new or different since a revision, by file."""
    changed: dict[str, set[int]] = {}
    file = ""
    # No external diff and no colours, whatever the user has set.
    diff = _git(
        root, "-c", "core.quotepath=off", "diff", "-U0", "--no-color", "--no-ext-diff", revision
    )
    for line in diff.splitlines():
        if line.startswith("+++ "):
            file = line[4:].removeprefix("b/")
        elif line.startswith("@@"):
            start, _, count = line.split()[2][1:].partition(",")
            changed.setdefault(file, set()).update(
                range(int(start), int(start) + int(count or "1"))
            )
    for file in _git(root, "ls-files", "--others", "--exclude-standard").splitlines():
        if file.endswith(".py"):
            changed[file] = set(range(1, len((root / file).read_text().splitlines()) + 1))
    return changed


def is_changed(mutant: Mutant, changed: Mapping[str, set[int]]) -> bool:
    """Return whether a mutant stands in a changed line."""
    first, last = mutant.lines
    return not changed.get(mutant.file, set()).isdisjoint(range(first, last + 1))


def _git(root: Path, *arguments: str, check: bool = True) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, check=check, capture_output=True, text=True
    ).stdout
