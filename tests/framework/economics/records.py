"""The recorded outcomes, and the document's tables and plots that follow from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.framework.checkout import UNKNOWN, git
from tests.framework.economics.figures import Figure, Outcome, depth_figures
from tests.framework.economics.plan import Row
from tests.framework.economics.plots import Bar, Group, svg

ROOT: Final = Path(__file__).parents[3]
DATA: Final = ROOT / "docs/data/consensus-simulation.json"
DOCUMENT: Final = ROOT / "docs/consensus-simulation.md"
PLOT: Final = ROOT / "docs/consensus-simulation-{}.svg"
PLOTTED: Final = ("honest", "withholding", "race")
"""Experiments whose figures a picture shows more of than a table."""

BEGIN, END = "<!-- figures of {} -->", "<!-- end of figures -->"


def key_of(row: Row) -> str:
    """Return the name under which a row's outcome is kept."""
    words = [f"{name}={value}" for name, value in msgspec.to_builtins(row.parameters).items()]
    return " ".join((row.name, *words, f"seed={row.seed}"))


def load(path: Path = DATA) -> dict[str, Outcome]:
    """Return the recorded outcomes."""
    if not path.exists():
        return {}
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Outcome])


def save(outcomes: dict[str, Outcome], path: Path = DATA) -> None:
    """Write outcomes, one on each line."""
    lines = [
        f"{json.dumps(key)}: {msgspec.json.encode(rounded(outcome)).decode()}"
        for key, outcome in sorted(outcomes.items())
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def rounded(outcome: Outcome) -> Any:
    """Return an outcome as it is kept: sums to 12 digits, in which no processor differs."""
    found = msgspec.to_builtins(outcome)
    found["cpu_s"] = round(outcome.cpu_s, 1)
    # What is recorded is one run each.
    del found["seed"], found["runs"]
    if not outcome.commit:
        del found["commit"]
    for figure in found["figures"]:
        for part in ("total", "squares"):
            figure["sums"][part] = float(f"{figure['sums'][part]:.12g}")
    return found


def comparable(outcome: Outcome) -> Any:
    """Return what two runs of one seed have in common: all but the time and the commit."""
    found = rounded(outcome)
    del found["cpu_s"]
    found.pop("commit", None)
    return found


def commit_of(root: Path = ROOT) -> str:
    """Return the commit that is checked out, and whether the code differs from it; "unknown" where
    git does not know."""
    commit = git(root, "rev-parse", "HEAD")
    changes = git(root, "status", "--porcelain", "--", "node", "storage", "tests/framework")
    if commit is None or changes is None:
        return UNKNOWN
    return commit + (" with changes" if changes else "")


# The document


def tables(outcomes: dict[str, Outcome], plan: Sequence[Row]) -> dict[str, str]:
    """Return the tables by experiment."""
    found: dict[str, list[str]] = {}
    for row in plan:
        outcome = outcomes.get(key_of(row))
        if outcome is not None:
            found.setdefault(row.name, []).extend(_lines(row, outcome))
    head = "| what; epochs or attempts, CPU time | figure | measured (95 %) | model |\n"
    head += "|---|---|---|---|\n"
    return {name: head + "\n".join(lines) for name, lines in found.items()}


def describe(row: Row) -> str:
    """Return a row's parameters in words."""
    parameters = row.parameters
    words = [f"delay {parameters.delay:g} T"]
    if parameters.share:
        words.insert(0, f"{100 * parameters.share:g} %")
    if parameters.retarget:
        words.append("difficulty moves")
    words += [
        f"{name} {value}"
        for name, value in msgspec.to_builtins(parameters).items()
        if name not in ("delay", "share", "retarget", "size", "miners")
    ]
    return ", ".join(words)


def _lines(row: Row, outcome: Outcome) -> Iterator[str]:
    first = f"{describe(row)}; {row.parameters.size:,} in {outcome.cpu_s:.0f} s"
    for figure in (*outcome.figures, *depth_figures(outcome)):
        yield f"| {first} | {figure.name} | {figure.text()} | {figure.model_text()} |"
        first = ""


def with_tables(document: str, found: dict[str, str]) -> str:
    """Return a document with its tables replaced. Raises ValueError."""
    for name, table in found.items():
        begin = BEGIN.format(name)
        before, mark, rest = document.partition(begin)
        _, end, after = rest.partition(END)
        if not mark or not end:
            raise ValueError(f"the document has no place for the figures of {name}")
        document = f"{before}{begin}\n{table}\n{end}{after}"
    return document


def plots(outcomes: dict[str, Outcome], plan: Sequence[Row]) -> dict[str, str]:
    """Return the plots by name: what was measured of an experiment, beside the model."""
    found: dict[str, list[Group]] = {}
    for row in plan:
        outcome = outcomes.get(key_of(row))
        if outcome is None or row.name not in PLOTTED:
            continue
        for figure in outcome.figures:
            if figure.model is not None and figure.sums.count > 0 and figure.is_resolved:
                group = Group(f"{describe(row)}", figure.name, [_bar(figure)])
                found.setdefault(row.name, []).append(group)
    return {name: svg(f"{name}: measured and by the model", rows) for name, rows in found.items()}


def _bar(figure: Figure) -> Bar:
    assert figure.model is not None
    return Bar(figure.sums.mean, *figure.interval(), figure.model, figure.text())


def write_document(plan: Sequence[Row]) -> list[Path]:
    """Bring tables and plots up to what is recorded; return the files that this has changed. Raises
    ValueError."""
    outcomes = load()
    text = DOCUMENT.read_text(encoding="utf-8")
    wanted = {DOCUMENT: with_tables(text, tables(outcomes, plan))}
    for name, picture in plots(outcomes, plan).items():
        wanted[Path(str(PLOT).format(name))] = picture
    changed = []
    for path, new in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != new:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed
