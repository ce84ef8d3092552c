"""`scripts/attack`: plays a policy against the product's consensus, and says what it pays."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import msgspec

from tests.framework.economics.experiments import EXPERIMENTS, SIZES, TAKES
from tests.framework.economics.figures import Outcome, depth_figures, shown
from tests.framework.economics.options import Parser, add_parameters, given
from tests.framework.economics.plan import PLAN, SMALL, Row
from tests.framework.economics.progress import shown_on_stderr
from tests.framework.economics.records import commit_of, key_of, load, save, write_document
from tests.framework.economics.search import POPULATION, SPACES, Thresholds, search
from tests.framework.economics.shared import Parameters


def tell(outcome: Outcome) -> str:
    """Return what an outcome says, a figure on each line."""
    words = [f"{name} {value}" for name, value in outcome.parameters.items()]
    lines = [f"{outcome.name}: {', '.join(words)}"]
    depths = depth_figures(outcome)
    for figure in (*outcome.figures, *depths):
        model = f"   model {figure.model_text()}" if figure.model is not None else ""
        lines.append(f"  {figure.name:<44} {figure.text()}{model}")
    told = {figure.name for figure in depths}
    counts = {name: count for name, count in outcome.counts.items() if name not in told}
    lines += [f"  {name:<44} {count:,}" for name, count in counts.items()]
    lines.append(f"  {'CPU':<44} {outcome.cpu_s:.1f} s = {outcome.cpu_s / 3600:.4f} h")
    return "\n".join(lines)


def run(row: Row) -> Outcome:
    """Run a row, and tell on stderr how far it is."""
    with shown_on_stderr(f"{row.name}, seed {row.seed}"):
        return EXPERIMENTS[row.name](row.parameters, row.seed)


def run_for(row: Row, hours: float) -> Outcome:
    """Run a row again and again, with one seed after another, and add up what they give."""
    ends_at = time.monotonic() + 3600 * hours
    outcome = run(row)
    while time.monotonic() < ends_at:
        row = row._replace(seed=row.seed + 1)
        outcome.merge(run(row))
    return outcome


def look_for_thresholds(name: str, parameters: Parameters, generations: int, seed: int) -> None:
    """Print the best thresholds of each generation of a search."""
    began = time.process_time()
    space = SPACES[name]

    def pays(thresholds: Thresholds, seed: int) -> float:
        tried = msgspec.structs.replace(parameters, **thresholds)
        figures = run(Row(name, tried, seed)).figures
        wanted = next(figure for figure in figures if figure.name.startswith(space.figure))
        return wanted.sums.mean

    for number, found in enumerate(search(space, pays, generations, seed), 1):
        words = " ".join(f"{name}={value}" for name, value in found.thresholds.items())
        print(f"generation {number}: {shown(found.paid, space.unit)} by {words}", flush=True)
    print(f"{(time.process_time() - began) / 3600:.4f} CPU hours")


def record(names: Sequence[str], afresh: bool) -> None:
    """Run the plan's rows that are not recorded yet, or all of them, and write the document."""
    wanted = {key_of(row): row for row in (*PLAN, *SMALL)}
    commit = commit_of()
    for key, row in wanted.items():
        if (not names or row.name in names) and (afresh or key not in load()):
            outcome = run(row)
            outcome.commit = commit
            print(tell(outcome), flush=True)
            # Others may have recorded something meanwhile.
            kept = {key: outcome for key, outcome in load().items() if key in wanted}
            save(kept | {key: outcome})


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = Parser(
        prog="scripts/attack",
        description="Play a policy against the consensus of the node; "
        "see docs/consensus-simulation.md.",
        usage="%(prog)s [options] [name ...]",
    )
    parser.add_argument(
        "name",
        nargs="*",
        help=f"of {', '.join(EXPERIMENTS)}; with --record: those alone",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="from which all chance comes (else %(default)s)"
    )
    parser.add_argument("--hours", type=float, help="go on for so long, seed after seed")
    parser.add_argument("--record", action="store_true", help="run what the document still lacks")
    parser.add_argument("--afresh", action="store_true", help="with --record: also what it has")
    parser.add_argument("--document", action="store_true", help="write its tables and plots alone")
    parser.add_argument(
        "--search",
        type=int,
        metavar="GENERATIONS",
        help=f"{', '.join(SPACES)}: look for the thresholds that pay most; all of "
        f"{POPULATION} runs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_parameters(parser)
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.name if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"no experiment {unknown[0]}: expected one of {', '.join(EXPERIMENTS)}")
    if arguments.hours is not None and arguments.hours <= 0:
        parser.error("--hours takes a number above 0")
    if arguments.record or arguments.document:
        if arguments.record:
            record(arguments.name, arguments.afresh)
        write_document(PLAN)
        return 0
    if not arguments.name:
        parser.error("which experiment? or --record")
    for row in [_row(parser, arguments, name) for name in arguments.name]:
        if arguments.search is not None:
            look_for_thresholds(row.name, row.parameters, arguments.search, row.seed)
            continue
        outcome = run(row) if arguments.hours is None else run_for(row, arguments.hours)
        print(msgspec.json.encode(outcome).decode() if arguments.json else tell(outcome))
    return 0


def _row(parser: Parser, arguments: argparse.Namespace, name: str) -> Row:
    """Return what is to be run of an experiment, or say what is wrong and exit."""
    asked = given(arguments)
    idle = [field for field in asked if field not in TAKES[name]]
    if idle:
        parser.error(f"{name} takes no --{idle[0].replace('_', '-')}")
    parameters = Parameters(**{"size": SIZES[name], **asked})
    wrong = parameters.fault()
    if not wrong and "share" in TAKES[name] and not parameters.share:
        wrong = f"{name} takes --share: an attacker of no power says nothing"
    if wrong:
        parser.error(wrong)
    if arguments.search is not None:
        if name not in SPACES or arguments.search < 1:
            parser.error(f"--search takes 1 generation or more, of {' or '.join(SPACES)}")
        if name == "snipe" and not parameters.pool:
            parser.error("--search of snipe takes --pool: subsidies in the pool of fees")
    return Row(name, parameters, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
