"""What the corpus reaches: the rules of consensus by their names, and lines of the code.

    python -m tests.fuzz.replay [--publish]

replays all of it under `coverage` and says which branches of the consensus, of the messages and of
the primitives are not reached; `--publish` writes that into docs/testing.md.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from tests.fuzz.target import FuzzTarget

ROOMS: Final = ("consensus", "wire", "primitives")
"""Rooms of the node of which the corpus has to reach nearly all."""

LEAST_SHARE: Final = 95.0
"""Percent of the branches of each."""

PAGE: Final = Path("docs", "testing.md")
BEGIN, END = "<!-- corpus: made by scripts/fuzz --coverage --publish -->", "<!-- end of corpus -->"


def replay(targets: Iterable[FuzzTarget]) -> set[str]:
    """Check targets on their seeds and their corpora; return the names of the rules that are broken
    there. Raises `NotTotalError`."""
    names: set[str] = set()
    for target in targets:
        for raw in (b"", *target.seeds(), *target.corpus()):
            names |= names_in(target.outcome(raw))
    return names


def names_in(outcome: Any) -> set[str]:
    """Return the names of the rules that something was found to break."""
    if isinstance(outcome, Exception):
        name = getattr(getattr(outcome, "error", outcome), "name", None)
        return {name} if isinstance(name, str) else set()
    if isinstance(outcome, list):
        return {said.verdict for said in outcome if hasattr(said, "verdict")}
    return set()


class Reached(NamedTuple):
    """How much of a module is reached: statements and branches, and the lines that are not."""

    module: str
    statements: int
    statements_missed: int
    branches: int
    branches_missed: int
    missing: str

    @property
    def share(self) -> float:
        """Percent of the branches that are taken."""
        missed = self.branches_missed
        return 100 * (1 - missed / self.branches) if self.branches else 100.0

    @classmethod
    def of_all(cls, name: str, rows: Sequence[Reached]) -> Reached:
        """Return what several modules come to."""
        sums = [sum(row[at] for row in rows) for at in range(1, 5)]
        return cls(name, *sums, "")


def measure() -> list[Reached]:
    """Replay all in this process and return what of the rooms it reaches. The rooms must not have
    been imported before: what is run at import counts too."""
    import coverage  # not among the tools that every contributor needs

    early = [name for name in sys.modules if name.startswith("unchained.")]
    assert not early, f"imported before anything is measured: {early[:3]}"
    watch = coverage.Coverage(
        branch=True,
        data_file=None,
        config_file=False,
        source_pkgs=[f"unchained.node.{room}" for room in ROOMS],
    )
    watch.exclude(r"@overload", "exclude")
    watch.exclude(r"class \w+\(.*Protocol\):", "exclude")
    watch.start()
    from tests.fuzz.targets import all_targets

    replay(all_targets().values())
    watch.stop()
    found = []
    for path in sorted(watch.get_data().measured_files()):
        analysis = watch._analyze(path)
        numbers = analysis.numbers
        module = str(Path(path).resolve().relative_to(Path.cwd()))
        found.append(
            Reached(
                module,
                numbers.n_statements,
                numbers.n_missing,
                numbers.n_branches,
                numbers.n_missing_branches,
                analysis.missing_formatted(branches=True),
            )
        )
    return found


def table(found: Sequence[Reached]) -> str:
    """Return the figures as a table, whole rooms first."""
    lines = ["| room or module | statements | missed | branches | missed | share | not reached |"]
    lines.append("|---|---:|---:|---:|---:|---:|---|")
    for room in ROOMS:
        rows = _of_room(found, room)
        total = Reached.of_all(f"**{room}**", rows)
        lines += map(_line, [total, *(row for row in rows if row.missing)])
    return "\n".join(lines)


def _of_room(found: Sequence[Reached], room: str) -> list[Reached]:
    return [row for row in found if row.module.startswith(f"node/{room}/")]


def _line(row: Reached) -> str:
    name = row.module if row.module.startswith("**") else f"`{row.module}`"
    numbers = " | ".join(map(str, row[1:5]))
    return f"| {name} | {numbers} | {row.share:.1f}% | {row.missing} |"


def publish(text: str, page: Path = PAGE) -> None:
    """Put a text between the two marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main(arguments: Sequence[str]) -> int:
    """Measure, print and, if it is asked, publish; return whether too little is reached."""
    if importlib.util.find_spec("coverage") is None:
        print("there is no coverage for this Python: pip install coverage")
        return 2
    found = measure()
    text = table(found)
    print(text)
    if "--publish" in arguments:
        publish(text)
    shares = {room: Reached.of_all(room, _of_room(found, room)).share for room in ROOMS}
    return 0 if min(shares.values()) >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
