"""The command line of the fuzzer: scripts/fuzz.

What an input reaches decides whether it is worth keeping: by `atheris` (libFuzzer for Python) where
that can be had, otherwise by a loop in plain Python, many times slower, and the command says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.framework.arguments import ScriptParser, above_zero, exit_codes
from tests.fuzz.failures import keep_failure
from tests.fuzz.growing import KINDS, changed, grow
from tests.fuzz.kernel import KERNEL, MISSING, compiler, fuzz_kernel
from tests.fuzz.libfuzzer import FuzzerFailedError, lay_out, run
from tests.fuzz.replay import PAGE
from tests.fuzz.target import CORPUS, LARGEST, FuzzTarget, NotTotalError
from tests.fuzz.targets import all_targets
from unchained.node.base.number_words import number_of

ROOT: Final = Path(__file__).parents[2]
KEPT_MAX = 48
"""Inputs of one target that the repository holds, the shortest."""
KEPT_BYTES_MAX = 1_024
"""Bytes of such an input; longer ones are told of by the known answers."""


PLAIN: Final = "by plain Python, many times slower than with atheris"


def mutations(corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of inputs one to four changes away from the corpus."""
    places = st.integers(0, LARGEST)
    change = st.tuples(st.sampled_from(KINDS), places)
    changes = st.lists(st.tuples(change, st.binary(min_size=1, max_size=9)), min_size=1, max_size=4)
    return st.builds(changed, st.sampled_from(sorted(set(corpus)) or [b""]), changes)


def draw(target: FuzzTarget, inputs: int, seed: int) -> None:
    """Check a target on inputs drawn from its corpus; the same seed draws the same. Raises
    `NotTotalError`."""
    known = [*target.corpus(), *target.seeds()]

    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(known))
    def check(raw: bytes) -> None:
        target.check(raw)

    hypothesis.seed(seed)(check)()


def say(line: str) -> None:
    """Tell how far it is, apart from what it has come to."""
    print(line, file=sys.stderr, flush=True)


class Change(NamedTuple):
    """What fuzzing has changed of a target's corpus in the repository: how many inputs."""

    target: str
    added: int
    taken: int
    there: int

    def __str__(self) -> str:
        path = (CORPUS / f"{self.target}.json").relative_to(ROOT)
        if not self.added and not self.taken:
            return f"nothing changed in {path}: {number_of(self.there, 'input')}"
        return f"{path}: {self.added} added, {self.taken} taken out, {self.there} there now"


def fuzz(target: FuzzTarget, seconds: float, *, plain: bool = False) -> Change:
    """Fuzz one target for some seconds, a whole one at least, say on stderr every ten how far it
    is, and return what has become of its corpus. `plain`: without `atheris`, even where there is
    one.

    Raises `NotTotalError`, `FuzzerFailedError`.
    """
    whole_s = max(1, round(seconds))

    def told(taken: float, executions: int, new: int) -> None:
        far = f"{number_of(executions, 'execution')}, {number_of(new, 'new input')}, no failure"
        getting_ready = "the code is made to tell what an input reaches, before the first"
        say(f"{target.name}: {taken:.0f} s: {far if executions else getting_ready}")

    before = target.corpus()
    beginning = f"{number_of(len(before), 'input')} of the corpus and those that it begins with"
    say(f"{target.name}: {engine_of(target, plain)}, for {whole_s} s, from {beginning}")
    if engine_of(target, plain) is PLAIN:
        found = [*before, *grow(target, whole_s, seed=time.time_ns(), told=told)]
        return _keep(target, found)
    with tempfile.TemporaryDirectory() as folder:
        if target is KERNEL:
            return _keep(target, fuzz_kernel(Path(folder), whole_s, told))
        lay_out(target, Path(folder))
        command = [sys.executable, "-m", "tests.fuzz.under_atheris", target.name]
        options = [f"-max_total_time={whole_s}", f"-max_len={LARGEST}"]
        # libFuzzer keeps what reaches something new, and makes it smaller where it can.
        return _keep(target, run(command, Path(folder), options, told))


def engine_of(target: FuzzTarget, plain: bool) -> str:
    """Return in words by what a target is fuzzed."""
    if target is KERNEL:
        return "by libFuzzer, guided by what an input reaches"
    if plain or importlib.util.find_spec("atheris") is None:
        return PLAIN
    return "by atheris (libFuzzer), guided by what an input reaches"


def _keep(target: FuzzTarget, inputs: Iterable[bytes]) -> Change:
    before = set(target.corpus())
    short = {raw for raw in inputs if len(raw) <= KEPT_BYTES_MAX}.difference(target.seeds())
    kept = set(sorted(short, key=lambda raw: (len(raw), raw))[:KEPT_MAX])
    if kept != before:
        target.keep(kept)
    return Change(target.name, len(kept - before), len(before - kept), len(kept))


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    targets = all_targets() | {KERNEL.name: KERNEL}
    parser = ScriptParser(
        prog="scripts/fuzz",
        description="Try decoders with bytes that nobody meant for them. Inputs that reach new "
        "code are written into the corpus in tests/fuzz/corpus, which is in the repository.",
        epilog=exit_codes(
            "nothing failed",
            "a target failed on an input, which is written to out/fuzz, or with --coverage too "
            "little is reached",
        ),
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="targets, of those that --list prints (default: all); kernel, the proof-of-work "
        "kernel in C, takes clang with libFuzzer",
    )
    parser.add_argument(
        "--hours",
        type=above_zero,
        default=1 / 60,
        metavar="H",
        help="for each target (default: 1/60, a minute)",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="print the targets, and how many inputs the corpus has of each",
    )
    parser.add_argument(
        "--plain", action="store_true", help="without atheris, which is installed else"
    )
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="fuzz nothing; say which code of the consensus, of messages and of primitives the "
        "corpus reaches",
    )
    parser.add_argument(
        "--publish", action="store_true", help=f"with --coverage: write that into {PAGE} as well"
    )
    options = parser.parse_args(arguments)
    if not options.coverage:
        parser.refuse_unused(options, ["publish"], "without --coverage")
    else:
        parser.refuse_unused(options, ["names", "hours", "list", "plain"], "beside --coverage")
        # What is measured must not have been imported before, as it is here.
        replay = [sys.executable, "-m", "tests.framework.script", "fuzz", "tests.fuzz.replay"]
        publish = ["--publish"] if options.publish else []
        os.execv(sys.executable, [*replay, *publish])
    unknown = [name for name in options.names if name not in targets]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(targets)}")
    if options.list:
        for target in targets.values():
            count = len(target.corpus())
            none = f"no corpus yet: scripts/fuzz {target.name} makes one"
            print(f"{target.name:<19} {number_of(count, 'input') if count else none}")
        return 0
    if compiler() is None:
        if KERNEL.name in options.names:
            parser.error(MISSING)
        del targets[KERNEL.name]
    if options.check:
        return 0
    chosen = [targets[name] for name in options.names or targets]
    seconds = options.hours * 3_600
    say(
        f"{number_of(len(chosen), 'target')}, {max(1, seconds):.0f} s each; what is found worth "
        f"keeping is written into {CORPUS.relative_to(ROOT)}, which is in the repository"
    )
    changes: list[Change] = []
    code = 0
    for target in chosen:
        try:
            changes.append(fuzz(target, seconds, plain=options.plain))
        except FuzzerFailedError as error:
            say(f"{target.name}: {error}")
            code = 1
        except NotTotalError as error:
            print(f"{target.name}: FAILED: {error}", flush=True)
            path = keep_failure(target, error.raw)
            print(
                f"{target.name}: the smallest input is in {path}; move it to tests/regressions/ "
                "to keep"
            )
            code = 1
        else:
            print(f"{target.name}: {changes[-1]}", flush=True)
        if code:
            break
    print(summary(changes))
    return code


def summary(changes: Sequence[Change]) -> str:
    """Return in one line what has become of the corpus in the repository."""
    changed = [change for change in changes if change.added or change.taken]
    if not changed:
        return "the corpus in the repository is as it was"
    added, taken = sum(one.added for one in changed), sum(one.taken for one in changed)
    return (
        f"{number_of(len(changed), 'file')} of the corpus in the repository changed: "
        f"{number_of(added, 'input')} added, {taken} taken out; git diff --stat shows them, "
        "git checkout tests/fuzz/corpus takes them back"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
