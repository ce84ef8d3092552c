"""What whole runs have found, module by module: kept as data, and shown as a table.

`docs/data/mutation.json` has for each module of which every mutant was tried by all tests how many
ended how, and at which commit. `docs/testing.md` shows it, with the modules that were not run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from tests.framework.checkout import UNKNOWN, git
from tests.framework.mutation.catalogue import all_mutants, files_of, is_strict
from tests.framework.mutation.report import OUTCOMES, PUBLISHED, Counts, read_json, share

TEXT: Final = "docs/testing.md"
BEGIN: Final = "<!-- mutants: made by scripts/mutate --publish -->"
END: Final = "<!-- end of mutants -->"


def publish(root: Path, counts: Mapping[str, Counts], commit: str) -> None:
    """Keep what whole runs of some files have found at a commit, and show it; files that are gone
    go."""
    kept: dict[str, Any] = read_json(root / PUBLISHED)
    for file, found in counts.items():
        kept[file] = {"commit": commit, "mutants": sum(found.values()), **found}
    files = mutated_files(root)
    kept = {file: kept[file] for file in files if file in kept}
    (root / PUBLISHED).parent.mkdir(parents=True, exist_ok=True)
    (root / PUBLISHED).write_text(json.dumps(kept, indent=1) + "\n")
    text = root / TEXT
    if text.exists():
        text.write_text(with_table(text.read_text(), table(files, kept)))


def mutated_files(root: Path) -> list[str]:
    """Return the files that have mutants."""
    return [file for file in files_of(root) if all_mutants(root, [file])]


def commit_of(root: Path) -> str:
    """Return the commit that the working tree is at, with a + if something differs from it;
    "unknown" where git does not know."""
    found = git(root, "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+")
    return UNKNOWN if found is None else found


def with_table(text: str, shown: str) -> str:
    """Return a text with this between the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}"


def table(files: Collection[str], published: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is published in Markdown, and which of the files were not run."""
    names = ("module", "mutants", *OUTCOMES, "share killed", "commit")
    rows = [f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 2) + "|---|"]
    for file in files:
        if file in published:
            row = published[file]
            numbers = " | ".join(str(row[name]) for name in ("mutants", *OUTCOMES))
            rows.append(f"| `{file}` | {numbers} | {share(row):.1%} | {row['commit']} |")
    missing = [file for file in files if file not in published]
    strict = [file for file in missing if is_strict(file)]
    other = [file for file in missing if not is_strict(file)]
    rows.append("")
    for kind, those in (("where none may survive without a reason", strict), ("elsewhere", other)):
        names_of = ", ".join(f"`{file}`" for file in those) or "none"
        rows.append(f"Not run as a whole, {kind}: {names_of}.")
        rows.append("")
    return "\n".join(rows).rstrip()
