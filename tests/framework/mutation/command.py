"""The command line of the mutation tester: scripts/mutate."""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.framework.arguments import (
    ScriptParser,
    above_zero,
    at_least,
    exit_codes,
    file_to_write,
)
from tests.framework.mutation import planted
from tests.framework.mutation.catalogue import (
    ROOMS,
    all_mutants,
    changed_lines,
    default_revision,
    files_of,
    is_changed,
)
from tests.framework.mutation.coverage_map import TESTS, MapMaker, find_tests
from tests.framework.mutation.mutants import Mutant
from tests.framework.mutation.published import commit_of, publish
from tests.framework.mutation.report import PUBLISHED, REASONS, Report, read_json
from tests.framework.mutation.samples import SAMPLES, publish_samples, rows_of
from tests.framework.mutation.tester import Limits, Verdict
from tests.framework.mutation.tiers import TieredRun
from tests.framework.mutation.tree_copy import copy_tree
from unchained.node.base.number_words import number_of

ROOT: Final = Path(__file__).resolve().parents[3]
CACHE: Final = ".ci/mutation"
OF_MUTANTS: Final = (
    "changed", "room", "file", "id", "sample", "seed", "list", "workers", "tests", "tiers",
    "seconds", "mutant_seconds", "publish",
)  # fmt: skip
"""Options that say nothing of planted bugs."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line says."""
    parser = ScriptParser(
        prog="scripts/mutate",
        description="Plant one small fault after the other, and see whether a test notices.",
        epilog=exit_codes(
            "a test notices each, or a reason says why none can",
            "one survives that must not, fewer are noticed than were published, or a planted bug "
            "is not found",
        ),
    )
    which = parser.add_argument_group("which mutants (default: all)")
    which.add_argument(
        "--changed",
        nargs="?",
        const="",
        metavar="REV",
        help="only in lines changed since REV (default: where this branch left main, or HEAD~1)",
    )
    which.add_argument("--room", action="append", choices=ROOMS, help="only this room")
    which.add_argument("--file", action="append", help="only this file")
    which.add_argument("--id", action="append", help="only this mutant; names may be cut short")
    which.add_argument("--sample", type=at_least(1), metavar="N", help="N of them, drawn by --seed")
    which.add_argument("--seed", type=int, default=1)
    which.add_argument("--list", action="store_true", help="print ids and run nothing")
    how = parser.add_argument_group("how")
    how.add_argument("-j", type=at_least(1), default=os.cpu_count() or 1, dest="workers")
    how.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="by these tests")
    how.add_argument(
        "--tiers",
        type=at_least(1),
        metavar="N",
        help="go no further than to the Nth nearest kind of tests",
    )
    how.add_argument(
        "--seconds", type=above_zero, metavar="N", help="begin no mutant after N seconds"
    )
    how.add_argument(
        "--mutant-seconds",
        type=above_zero,
        default=Limits().mutant_s,
        metavar="N",
        help="for each mutant, tests that take N seconds in all (default: %(default).0f)",
    )
    how.add_argument(
        "--json", type=file_to_write, metavar="FILE", help="write every verdict to FILE"
    )
    how.add_argument(
        "--publish",
        action="store_true",
        help=f"write what became of whole modules to {PUBLISHED} and its table; with --sample, of "
        f"what was drawn of whole rooms, to {SAMPLES}",
    )
    bugs = parser.add_argument_group("planted bugs")
    bugs.add_argument(
        "--planted",
        nargs="*",
        metavar="NAME",
        help=f"apply each patch of {planted.FOLDER}, or those named, and look",
    )
    bugs.add_argument("--command", help="what looks for them (default: the tests that they name)")
    options = parser.parse_args(arguments)
    if options.planted is None:
        parser.refuse_unused(options, ["command"], "without --planted")
    else:
        parser.refuse_unused(options, OF_MUTANTS, "beside --planted")
    if options.sample is None:
        parser.refuse_unused(options, ["seed"], "without --sample")
    if options.publish and options.sample is not None:
        narrowed = (options.changed, options.file, options.id, options.seconds)
        if any(each is not None for each in narrowed) or list(options.tests) != list(TESTS):
            parser.error(
                "a sample is published of whole rooms: name no more than --room and --tiers"
            )
    return options


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Do what the command line says; return the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.planted is not None:
        return run_planted(options, root)
    files = files_of(root, options.room or ROOMS)
    unknown = sorted(set(options.file or ()) - set(files))
    if unknown:
        print(f"mutate: {unknown[0]} is no file of the rooms that mutants are of", file=sys.stderr)
        return 2
    mutants = choose(options, root, files)
    if options.list:
        for mutant in mutants:
            print(mutant.id)
        print(f"{len(mutants)} mutants", file=sys.stderr)
        return 0
    if not mutants:
        which = f" whose id begins with {', '.join(options.id)}" if options.id else " there"
        print(f"mutate: no mutants{which}; --list prints all", file=sys.stderr)
        return 2 if options.id else 0
    return run_mutants(options, root, mutants)


def choose(options: argparse.Namespace, root: Path, files: dict[str, str]) -> list[Mutant]:
    """Return the mutants that the command line names."""
    mutants = all_mutants(root, [f for f in files if not options.file or f in options.file])
    if options.changed is not None:
        changed = changed_lines(root, options.changed or default_revision(root))
        mutants = [mutant for mutant in mutants if is_changed(mutant, changed)]
    if options.id:
        mutants = [m for m in mutants if any(m.id.startswith(each) for each in options.id)]
    if options.sample is not None and options.sample < len(mutants):
        drawn = random.Random(options.seed).sample(range(len(mutants)), options.sample)
        mutants = [mutants[at] for at in sorted(drawn)]
    return mutants


def run_mutants(options: argparse.Namespace, root: Path, mutants: Sequence[Mutant]) -> int:
    """Run mutants, print what survives, and return the exit code."""
    start = time.monotonic()
    files = len({mutant.file for mutant in mutants})
    print(
        f"{number_of(len(mutants), 'mutant')} of {number_of(files, 'file')}, one after the other "
        "by the tests that come nearest; all of them take a night, --changed and --file less",
        file=sys.stderr,
    )
    commit = commit_of(root) if options.publish else ""
    watched = sorted(files_of(root))
    reasons = read_json(root / REASONS)
    with tempfile.TemporaryDirectory(prefix="unchained-mutate-") as folder:
        scratch = Path(folder)
        # One moment of the working tree, which may go on changing.
        tree = copy_tree(root, scratch / "tree")
        maker = MapMaker(tree, watched, root / CACHE)
        run = TieredRun(
            tree,
            maker,
            watched,
            scratch,
            Limits(mutant_s=options.mutant_seconds),
            options.workers,
            lambda text: print(text, flush=True),
        )
        until = start + options.seconds if options.seconds else float("inf")
        verdicts = run.run(mutants, find_tests(tree, options.tests), until, reasons, options.tiers)
        touched = {mutant.file for mutant in mutants}
        sources = {file: (tree / file).read_text() for file in touched}
        whole = whole_files(root, verdicts) if list(options.tests) == list(TESTS) else frozenset()
    report = Report(verdicts, reasons, read_json(root / PUBLISHED), whole)
    for line in report.lines(sources):
        print(line)
    if len(verdicts) < len(mutants):
        print(f"{len(mutants) - len(verdicts)} mutants live that have not met all tests")
    print(f"{time.monotonic() - start:.0f} s for {len(verdicts)} mutants")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    if options.publish and options.sample is not None:
        rooms = all_mutants(root, files_of(root, options.room or ROOMS))
        rows = rows_of(rooms, mutants, verdicts, reasons)
        publish_samples(root, rows, seed=options.seed, tiers=options.tiers, commit=commit)
    elif options.publish:
        publish(root, {file: report.by_file[file] for file in report.whole}, commit)
    return 0 if report.passed else 1


def whole_files(root: Path, verdicts: Sequence[Verdict]) -> frozenset[str]:
    """Return the files of which every mutant has a verdict."""
    done = {verdict.mutant.id for verdict in verdicts}
    return frozenset(
        file
        for file in {verdict.mutant.file for verdict in verdicts}
        if all(mutant.id in done for mutant in all_mutants(root, [file]))
    )


def run_planted(options: argparse.Namespace, root: Path) -> int:
    """Look for the planted bugs and print the table; 1 if one of them is not found, or if the
    simulation that finds it takes too many faults for that."""
    files = planted.patches(root)
    unknown = sorted(set(options.planted) - {file.stem for file in files})
    if unknown:
        print(f"mutate: no patch {', '.join(unknown)} in {planted.FOLDER}", file=sys.stderr)
        return 2
    files = [file for file in files if not options.planted or file.stem in options.planted]
    if not files:
        print(f"no patches in {planted.FOLDER}")
        return 0
    command = shlex.split(options.command or "")
    with tempfile.TemporaryDirectory(prefix="unchained-planted-") as folder:
        try:
            findings = planted.find_planted(
                root,
                files,
                command,
                Path(folder),
                lambda each: print(each, flush=True),
                lambda line: print(line, file=sys.stderr, flush=True),
            )
        except ValueError as error:
            print(error)
            return 1
    print()
    print(planted.table(findings))
    if options.json:
        rows = [
            {
                "patch": each.patch,
                "found_by": each.found_by,
                "simulation": each.simulation,
                "faults": each.faults,
                "seconds": each.seconds,
            }
            for each in findings
        ]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(each.is_good for each in findings) else 1


if __name__ == "__main__":
    # Also where a shell has started this in the background; either tidies up.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
