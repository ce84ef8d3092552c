"""The command line of the fuzzer: scripts/fuzz.

What an input reaches decides whether it is worth keeping: by `atheris` (libFuzzer for Python) where
that can be had, otherwise by a loop in plain Python, many times slower, and the command says so.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.framework.arguments import ScriptParser, above_zero
from tests.fuzz.failures import keep_failure
from tests.fuzz.growing import KINDS, changed, grow
from tests.fuzz.kernel import KERNEL, MISSING, compiler, fuzz_kernel
from tests.fuzz.replay import PAGE
from tests.fuzz.target import LARGEST, FuzzTarget, NotTotalError
from tests.fuzz.targets import all_targets

KEPT_MAX = 48
"""Inputs of one target that the repository holds, the shortest."""
KEPT_BYTES_MAX = 1_024
"""Bytes of such an input; longer ones are told of by the known answers."""


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


def fuzz(target: FuzzTarget, seconds: float, *, plain: bool = False) -> int:
    """Fuzz one target for some seconds; return how many inputs its corpus has afterwards. `plain`:
    without `atheris`, even where there is one.

    Raises `NotTotalError`.
    """
    if target is KERNEL:
        with tempfile.TemporaryDirectory() as folder:
            return _keep(target, fuzz_kernel(Path(folder), seconds))
    if plain or importlib.util.find_spec("atheris") is None:
        if not plain:
            print(f"{target.name}: there is no atheris, so by plain Python", flush=True)
        return _keep(target, [*target.corpus(), *grow(target, seconds, seed=time.time_ns())])
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found")
        found.mkdir()
        for number, raw in enumerate([*target.corpus(), *target.seeds()]):
            (found / str(number)).write_bytes(raw)
        options = [f"-max_total_time={int(seconds)}", f"-max_len={LARGEST}"]
        ran = _under_atheris(target, [*options, f"-artifact_prefix={folder}/", str(found)])
        if ran.returncode:
            crashes = sorted(Path(folder).glob("crash-*"))
            raw = crashes[0].read_bytes() if crashes else b""
            raise NotTotalError((ran.stdout + ran.stderr)[-4_000:], raw)
        # libFuzzer keeps what reaches something new, and makes it smaller where it can.
        inputs = [path.read_bytes() for path in found.iterdir()]
    return _keep(target, inputs)


def _keep(target: FuzzTarget, inputs: Iterable[bytes]) -> int:
    short = {raw for raw in inputs if len(raw) <= KEPT_BYTES_MAX}.difference(target.seeds())
    kept = sorted(short, key=lambda raw: (len(raw), raw))[:KEPT_MAX]
    target.keep(kept)
    return len(kept)


def _under_atheris(target: FuzzTarget, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.under_atheris", target.name, *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    targets = all_targets() | {KERNEL.name: KERNEL}
    parser = ScriptParser(
        prog="scripts/fuzz", description="Try decoders with bytes that nobody meant for them."
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="targets, of those that --list prints (default: all); kernel, the proof-of-work "
        "kernel in C, takes clang with libFuzzer",
    )
    parser.add_argument(
        "--hours", type=above_zero, default=1 / 60, metavar="H", help="for each target"
    )
    parser.add_argument("--list", action="store_true", help="print the targets' names")
    parser.add_argument("--plain", action="store_true", help="without atheris")
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
        print("\n".join(targets))
        return 0
    if compiler() is None:
        if KERNEL.name in options.names:
            parser.error(MISSING)
        del targets[KERNEL.name]
    for name in options.names or targets:
        try:
            kept = fuzz(targets[name], options.hours * 3_600, plain=options.plain)
        except NotTotalError as error:
            print(f"{name}: {error}", flush=True)
            path = keep_failure(targets[name], error.raw)
            print(f"{name}: the smallest input is in {path}; move it to tests/regressions/ to keep")
            return 1
        print(f"{name}: {kept} inputs kept", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
