"""libFuzzer, whatever it is built into: where its inputs lie, how it is run, and what it says of
how far it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.framework.watched import run_watched
from tests.fuzz.target import FuzzTarget, NotTotalError

Told = Callable[[float, int, int], None]
"""Is given the seconds so far, how often a target was run, and how many new inputs were kept."""

_EXECUTED: Final = re.compile(r"^#(\d+)\t", re.MULTILINE)
_KEPT: Final = re.compile(r"^#\d+\t.* corp: (\d+)/", re.MULTILINE)
_WHY: Final = re.compile(r"NotTotalError: (.+)")
_ARTIFACTS: Final = ("crash", "leak", "oom", "timeout")
"""How libFuzzer names the files of inputs that something failed on."""


class FuzzerFailedError(Exception):
    """A fuzzer ended, and not by an input."""


def lay_out(target: FuzzTarget, folder: Path) -> None:
    """Write the seeds and the corpus of a target where `run` takes them from."""
    found = folder / "found"
    found.mkdir()
    for number, raw in enumerate([*target.seeds(), *target.corpus()]):
        (found / str(number)).write_bytes(raw)


def run(
    command: Sequence[str], folder: Path, options: Iterable[str], told: Told | None = None
) -> list[bytes]:
    """Run a fuzzer on what lies in `folder/found`, with libFuzzer's options; return what lies there
    afterwards. `told` is called every ten seconds.

    Raises `NotTotalError`, `FuzzerFailedError`.
    """
    found = folder / "found"

    def show(taken: float, said: str) -> None:
        if told is not None:
            told(taken, *progress_in(said))

    whole = [*command, *options, f"-artifact_prefix={folder}/", str(found)]
    code, said = run_watched(whole, show)
    if code:
        failed = sorted(
            path for path in folder.iterdir() if path.name.partition("-")[0] in _ARTIFACTS
        )
        if not failed:
            raise FuzzerFailedError(f"the fuzzer ended with {code}: {said.strip()[-2_000:]}")
        why = _WHY.search(said)
        raise NotTotalError(why[1] if why else said[-4_000:], failed[0].read_bytes())
    return [path.read_bytes() for path in sorted(found.iterdir())]


def progress_in(said: str) -> tuple[int, int]:
    """Return how often a target was run, and how many inputs were kept beyond those at the
    beginning, by what libFuzzer has said."""
    executed = max(map(int, _EXECUTED.findall(said)), default=0)
    kept = [int(count) for count in _KEPT.findall(said)]
    return executed, max(0, kept[-1] - kept[0]) if kept else 0
