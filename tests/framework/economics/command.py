"""`scripts/attack`: plays a policy against the product's consensus, and says what it pays."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from tests.framework.arguments import ScriptParser, above_zero, at_least
from tests.framework.economics.experiments import EPOCHS, EXPERIMENTS, SIZES, TAKES
from tests.framework.economics.figures import Outcome, depth_figures, shown
from tests.framework.economics.options import add_parameters, given
from tests.framework.economics.plan import PLAN, SMALL, Row
from tests.framework.economics.progress import shown_on_stderr
from tests.framework.economics.records import ROOT, commit_of, key_of, load, save, write_document
from tests.framework.economics.search import POPULATION, SPACES, Thresholds, search
from tests.framework.economics.shared import Parameters
from unchained.node.base.number_words import number_of


def heading(outcome: Outcome) -> str:
    """Return what was run: how much of it all in all, from which seeds, with which parameters."""
    told = dict(outcome.parameters)
    what = "epoch" if outcome.name in EPOCHS else "attempt"
    size = number_of(int(told.pop("size", 0)) * outcome.runs, what)
    seeds = f"seed {outcome.seed}"
    if outcome.runs > 1:
        seeds = f"seeds {outcome.seed} to {outcome.seed + outcome.runs - 1}"
        size += f" in {outcome.runs:,} runs"
    return ", ".join(
        (f"{outcome.name}, {seeds}: {size}", *(f"{name} {value}" for name, value in told.items()))
    )


def tell(outcome: Outcome) -> str:
    """Return what an outcome says, a figure on each line."""
    lines = [heading(outcome)]
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
        outcome = EXPERIMENTS[row.name](row.parameters, row.seed)
    outcome.seed = row.seed
    return outcome


def run_for(row: Row, hours: float) -> Iterator[Outcome]:
    """Run a row again and again, with one seed after another; yield what each run gives."""
    ends_at = time.monotonic() + 3600 * hours
    while True:
        yield run(row)
        if time.monotonic() >= ends_at:
            return
        row = row._replace(seed=row.seed + 1)


def added_up(outcomes: Iterable[Outcome], show: Callable[[Outcome], None]) -> None:
    """Show the sum of runs, also where Ctrl-C ends them: of those that were through."""
    total: Outcome | None = None
    try:
        for outcome in outcomes:
            if total is None:
                total = outcome
            else:
                total.merge(outcome)
    except KeyboardInterrupt as error:
        if total is None:
            error.add_note("no run was through")
        else:
            show(total)
            error.add_note(f"told is what {number_of(total.runs, 'run')} gave")
        raise
    if total is not None:
        show(total)


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


def record(names: Sequence[str], *, afresh: bool) -> None:
    """Run the plan's rows that are not recorded yet, or all of them, and say what was done."""
    plan = {key_of(row): row for row in (*PLAN, *SMALL)}
    wanted = {key: row for key, row in plan.items() if not names or row.name in names}
    recorded = load()
    lacking = [key for key in wanted if afresh or key not in recorded]
    commit = commit_of()
    for done, key in enumerate(lacking):
        try:
            outcome = run(wanted[key])
        except KeyboardInterrupt as error:
            error.add_note(f"{done} of {number_of(len(lacking), 'run')} recorded")
            raise
        outcome.commit = commit
        print(tell(outcome), flush=True)
        # Others may have recorded something meanwhile.
        kept = {key: outcome for key, outcome in load().items() if key in plan}
        save(kept | {key: outcome})
    if lacking:
        print(f"{number_of(len(lacking), 'run')} recorded, of commit {commit}")
    else:
        runs = number_of(len(wanted), "run")
        print(f"nothing to record: of {runs} none is lacking; --afresh runs them again")


def document() -> None:
    """Write tables and plots, and say which files that has changed."""
    changed = [str(path.relative_to(ROOT)) for path in write_document(PLAN)]
    print(f"written: {', '.join(changed)}" if changed else "tables and plots are as recorded")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = ScriptParser(
        prog="scripts/attack",
        description="Play a policy against the consensus of the node; "
        "see docs/consensus-simulation.md.",
        usage="%(prog)s [options] [NAME ...]",
    )
    parser.add_argument(
        "name",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(EXPERIMENTS)}; with --record: those alone",
    )
    parser.add_argument("--seed", type=int, help="from which all chance comes (else 1)")
    parser.add_argument("--hours", type=above_zero, help="go on for so long, seed after seed")
    parser.add_argument("--record", action="store_true", help="run what the document still lacks")
    parser.add_argument("--afresh", action="store_true", help="with --record: also what it has")
    parser.add_argument("--document", action="store_true", help="write its tables and plots alone")
    parser.add_argument(
        "--search",
        type=at_least(1),
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
    _refuse_idle(parser, arguments)
    if arguments.record or arguments.document:
        if arguments.record:
            record(arguments.name, afresh=arguments.afresh)
        document()
        return 0
    if not arguments.name:
        parser.error("no experiment named, expected NAME, --record or --document")

    def show(outcome: Outcome) -> None:
        print(
            msgspec.json.encode(outcome).decode() if arguments.json else tell(outcome), flush=True
        )

    for row in [_row(parser, arguments, name) for name in arguments.name]:
        if arguments.search is not None:
            look_for_thresholds(row.name, row.parameters, arguments.search, row.seed)
        elif arguments.hours is not None:
            added_up(run_for(row, arguments.hours), show)
        else:
            show(run(row))
    return 0


def _refuse_idle(parser: ScriptParser, arguments: argparse.Namespace) -> None:
    """End with one line where an argument was given that nothing acts upon."""
    every = set(vars(arguments))
    if arguments.document:
        parser.refuse_unused(arguments, every - {"document"}, "beside --document")
    elif arguments.record:
        acts = {"record", "afresh", "name"}
        parser.refuse_unused(arguments, every - acts, "beside --record: the plan says it all")
    else:
        parser.refuse_unused(arguments, {"afresh"}, "without --record")
    if arguments.search is not None:
        parser.refuse_unused(arguments, {"hours", "json"}, "beside --search")


def _row(parser: ScriptParser, arguments: argparse.Namespace, name: str) -> Row:
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
        if name not in SPACES:
            parser.error(f"--search of {name}, expected one of {', '.join(SPACES)}")
        drawn = [*SPACES[name].numbers, *SPACES[name].choices]
        idle = [field for field in asked if field in drawn]
        if idle:
            parser.error(
                f"--{idle[0].replace('_', '-')} does nothing beside --search, which draws it"
            )
        if name == "snipe" and not parameters.pool:
            parser.error("--search of snipe takes --pool: subsidies in the pool of fees")
    return Row(name, parameters, 1 if arguments.seed is None else arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
