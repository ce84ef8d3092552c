"""The command line of the fuzzer: scripts/fuzz.

Coverage decides what is worth keeping where `atheris` (libFuzzer for Python) can be had; otherwise
Hypothesis draws changes of the corpus, blindly, and the command says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.failures import keep_failure
from tests.fuzz.targets import LARGEST, FuzzTarget, NotTotalError, all_targets

KEPT_MAX = 48
"""Inputs of one target that the repository holds, the shortest."""
KEPT_BYTES_MAX = 1_024
"""Bytes of such an input; longer ones are told of by the known answers."""


def mutations(corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of inputs one to four changes away from the corpus."""
    places = st.integers(0, LARGEST)
    change = st.tuples(st.sampled_from(("set", "insert", "delete", "cut", "repeat")), places)
    changes = st.lists(st.tuples(change, st.binary(min_size=1, max_size=9)), min_size=1, max_size=4)
    return st.builds(_changed, st.sampled_from(sorted(set(corpus)) or [b""]), changes)


def _changed(raw: bytes, changes: Sequence[tuple[tuple[str, int], bytes]]) -> bytes:
    for (kind, place), data in changes:
        at = place % (len(raw) + 1)
        if kind == "set":
            raw = raw[:at] + data + raw[at + len(data) :]
        elif kind == "insert":
            raw = raw[:at] + data + raw[at:]
        elif kind == "delete":
            raw = raw[:at] + raw[at + len(data) :]
        elif kind == "repeat":
            raw = raw[:at] + raw[max(0, at - len(data)) :]
        else:
            raw = raw[:at]
    return raw[:LARGEST]


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


def fuzz(target: FuzzTarget, seconds: float) -> int:
    """Fuzz one target for some seconds; return how many inputs its corpus has afterwards.

    Raises `NotTotalError`; then the input stands in the message.
    """
    if importlib.util.find_spec("atheris") is None:
        print(f"{target.name}: no atheris for this Python, so by Hypothesis alone", flush=True)
        end, seed = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            draw(target, 2_000, seed)
            seed += 1
        return len(target.corpus())
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
    kept = sorted((raw for raw in inputs if len(raw) <= KEPT_BYTES_MAX), key=len)[:KEPT_MAX]
    target.keep(kept)
    return len(kept)


def _under_atheris(target: FuzzTarget, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.under_atheris", target.name, *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    targets = all_targets()
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description="Try decoders with bytes that nobody meant for them."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="targets (default: all)")
    parser.add_argument("--hours", type=float, default=1 / 60, metavar="H", help="for each target")
    parser.add_argument("--list", action="store_true", help="print the targets' names")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in targets]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are: {', '.join(targets)}")
    if options.list:
        print("\n".join(targets))
        return 0
    for name in options.names or targets:
        try:
            kept = fuzz(targets[name], options.hours * 3_600)
        except NotTotalError as error:
            print(f"{name}: {error}", flush=True)
            path = keep_failure(targets[name], error.raw)
            print(f"{name}: the smallest input is in {path}; move it to tests/regressions/ to keep")
            return 1
        print(f"{name}: {kept} inputs kept", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
