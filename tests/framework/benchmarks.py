"""Runs the benchmarks of tests/bench: ``python -m tests.framework.benchmarks``.

A benchmark is a module with ``run() -> list[dict]``; each result has the keys of `KEYS`.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TextIO

from rich.console import Console
from rich.table import Table

from tests.framework.arguments import ScriptParser, exit_codes, file_to_write
from unchained.node.base.runner import one_thread_for_numpy

Result = dict[str, object]

BENCH_DIR = Path(__file__).parents[1] / "bench"
KEYS = (
    "name",
    "unit",
    "median",
    "min",
    "max",
    "runs",
    "reference",
    "reference_median",
    "ratio",
    "goal",
    "met",
)


def discover(directory: Path) -> list[str]:
    """Return the names of the benchmarks, which are their modules' names."""
    return sorted(p.stem.removeprefix("bench_") for p in directory.glob("*.py") if is_bench(p))


def is_bench(path: Path) -> bool:
    """Distinguish a benchmark from a helper beside it: it has a top-level ``run``."""
    return not path.name.startswith("_") and "\ndef run(" in path.read_text(encoding="utf-8")


def module_of(name: str) -> ModuleType:
    """Return the module of a benchmark."""
    stem = name if (BENCH_DIR / f"{name}.py").exists() else f"bench_{name}"
    return importlib.import_module(f"tests.bench.{stem}")


def parts_of(name: str) -> Sequence[str]:
    """Return what of a benchmark may be run by itself: its module's ``PARTS``."""
    return getattr(module_of(name), "PARTS", ())


def load(name: str) -> Callable[[], list[Result]]:
    """Return the ``run`` of a benchmark; of one of its parts for ``NAME:PART``."""
    whole, _, part = name.partition(":")
    run: Callable[..., list[Result]] = module_of(whole).run
    return partial(run, part) if part else run


def run_all(
    benches: Sequence[tuple[str, Callable[[], list[Result]]]], errors: TextIO
) -> tuple[list[Result], list[str]]:
    """Run benchmarks one after the other; return their results and the names of those that
    raised or gave results of another shape."""
    results: list[Result] = []
    failed: list[str] = []
    for done, (name, run) in enumerate(benches):
        try:
            found = run()
            for result in found:
                if set(result) != set(KEYS):
                    raise ValueError(f"a result has the keys {sorted(result)}, expected {KEYS}")
            results += found
        except Exception:  # noqa: BLE001
            failed.append(name)
            errors.write(f"{name} failed:\n{traceback.format_exc()}")
        except KeyboardInterrupt as error:
            error.add_note(f"in {name}; {done} of {len(benches)} were through")
            raise
    return results, failed


def table(results: Sequence[Result]) -> Table:
    """Return the results as a table for people."""
    shown = Table("name", "median", "min", "max", "runs", "reference", "ratio", "goal", "met")
    for result in results:
        number = {
            key: f"{value:,.4g}" if isinstance(value := result[key], int | float) else str(value)
            for key in ("median", "min", "max", "reference_median", "ratio")
        }
        met = "[green]yes[/]" if result["met"] else "[red]no[/]"
        shown.add_row(
            str(result["name"]),
            f"{number['median']} {result['unit']}",
            number["min"],
            number["max"],
            str(result["runs"]),
            f"{result['reference']}: {number['reference_median']}",
            number["ratio"],
            "" if result["goal"] is None else str(result["goal"]),
            "" if result["met"] is None else met,
        )
    return shown


def main(arguments: Sequence[str]) -> int:
    """Run ``[NAME[:PART]…] [--json FILE]``; return the exit code: 1 if a benchmark raised."""
    known = discover(BENCH_DIR)
    parser = ScriptParser(
        prog="scripts/bench",
        description="Run benchmarks.",
        epilog=exit_codes(
            "all were run, whether or not a goal is met",
            "one raised, or gave results of another shape",
        ),
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME[:PART]",
        help=f"of {', '.join(known)} (default: all); PART is one of the PARTS of its module",
    )
    parser.add_argument(
        "--json", type=file_to_write, metavar="FILE", help="write the results to FILE"
    )
    options = parser.parse_args(arguments)
    names, file = options.names, options.json
    unknown = [name for name in names if name.partition(":")[0] not in known]
    if unknown:
        parser.error(f'no "{unknown[0]}"; there are: {", ".join(known)}')
    for name in names:
        whole, colon, part = name.partition(":")
        if colon and part not in (parts := parts_of(whole)):
            there_are = f"; there are: {', '.join(parts)}" if parts else ": it has none"
            parser.error(f'no part "{part}" of {whole}{there_are}')
    one_thread_for_numpy()
    results, failed = run_all([(name, load(name)) for name in names or known], sys.stderr)
    if file is not None:
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if sys.stdout.isatty():
        Console().print(table(results))
    elif file is None:
        print(json.dumps(results, indent=1))
    if failed:
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
