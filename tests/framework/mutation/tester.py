"""Runs mutants against the tests that can notice them, several at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal

from tests.framework.mutation.coverage_map import CoverageMap
from tests.framework.mutation.mutants import Mutant
from tests.framework.mutation.process import Ended, TestProcess, kill_group
from tests.framework.mutation.tree_copy import MutantFile, copy_tree

Outcome = Literal["killed", "timeout", "survived", "unreached"]

TIME_FACTOR: Final = 10.0
TIME_EXTRA_S: Final = 10.0
"""How much longer than usual a test may take before its mutant counts as one that hangs."""
IMPORT_S_MAX: Final = 120.0
PRELOADED: Final = (
    "hypothesis",
    "trio.testing",
    "msgspec",
    "numpy",
    "structlog",
    "libp2p",
    "starlette.applications",
    "hypercorn.trio",
    "typer",
    "rich",
    "httpx",
)
"""What tests import besides the product, and what takes long: once for all mutants."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a test may take, beside its usual time, and how long all tests of one mutant."""

    factor: float = TIME_FACTOR
    extra_s: float = TIME_EXTRA_S
    mutant_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: by which test, after how long, and how many tests there were.

    `untried` tests of those that run the line were not run, since they would take too long.
    """

    mutant: Mutant
    outcome: Outcome
    by: str = ""
    seconds: float = 0.0
    tests: int = 0
    untried: int = 0
    served: bool = False


class MutationTester:
    """Runs mutants with one map, in copies of one tree."""

    def __init__(
        self,
        tree: Path,
        coverage: CoverageMap,
        scratch: Path,
        limits: Limits = Limits(),
        preloaded: Sequence[str] = PRELOADED,
    ) -> None:
        self.preloaded = preloaded
        self._tree = tree
        self._coverage = coverage
        self._scratch = scratch
        self._limits = limits
        self._killers: Counter[tuple[str, str]] = Counter()
        # No two mutants are written at the same second, and none at one that a file may have.
        self._moments = count(int(time.time()) + 1_000_000)

    def run(
        self, mutants: Sequence[Mutant], workers: int, until: float, say: Callable[[Verdict], None]
    ) -> list[Verdict]:
        """Return what became of each mutant that was begun before `until` (monotonic seconds)."""
        queue: SimpleQueue[tuple[Mutant, list[str], int]] = SimpleQueue()
        verdicts: list[Verdict] = []
        needed: set[str] = set()
        for mutant in mutants:
            tests, untried = self._choose(mutant)
            if not tests:
                verdicts.append(Verdict(mutant, "unreached"))
                say(verdicts[-1])
                continue
            if not self._coverage.is_imported(mutant):
                needed |= {self._coverage.file_of[test] for test in tests}
            queue.put((mutant, tests, untried))
        failures: list[BaseException] = []

        def work(worker: _Worker) -> None:
            try:
                for verdict in worker.run_queue(queue, until):
                    verdicts.append(verdict)
                    say(verdict)
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                failures.append(error)

        all_workers = [
            _Worker(self, copy_tree(self._tree, self._scratch / f"worker{at}"), sorted(needed))
            for at in range(workers)
        ]
        threads = [threading.Thread(target=work, args=(worker,)) for worker in all_workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:  # interrupted
            for worker in all_workers:
                worker.interrupt()
            for thread in threads:
                thread.join()
            raise
        if failures:
            raise failures[0]
        return verdicts

    def _choose(self, mutant: Mutant) -> tuple[list[str], int]:
        """Return the tests for a mutant, and how many take too long together: first those of the
        module's own file, then the quickest."""
        seconds, own = self._coverage.seconds, f"test_{PurePosixPath(mutant.file).stem}"

        def rank(test: str) -> tuple[bool, float, str]:
            file = PurePosixPath(self._coverage.file_of[test]).stem
            return not file.startswith(own), seconds[test], test

        tests = sorted(self._coverage.tests_for(mutant), key=rank)
        chosen: list[str] = []
        total = 0.0
        for test in tests:
            total += seconds[test]
            if total > self._limits.mutant_s and chosen:
                break
            chosen.append(test)
        return chosen, len(tests) - len(chosen)

    def killers_first(self, mutant: Mutant, tests: Sequence[str]) -> list[str]:
        """Return tests in another order: first those that killed others of the same function."""
        scope = f"{mutant.file}::{mutant.scope}"
        return sorted(
            tests, key=lambda test: (-self._killers[scope, test], -self._killers[mutant.file, test])
        )

    def killed(self, mutant: Mutant, test: str) -> None:
        """Remember which test it was."""
        self._killers[f"{mutant.file}::{mutant.scope}", test] += 1
        self._killers[mutant.file, test] += 1

    def limit(self, test: str) -> float:
        """Return how long a test may take, seconds."""
        return self._coverage.seconds[test] * self._limits.factor + self._limits.extra_s

    def files_of(self, tests: Sequence[str]) -> list[str]:
        """Return the test files of some tests."""
        return sorted({self._coverage.file_of[test] for test in tests})

    def is_imported(self, mutant: Mutant) -> bool:
        """Return whether the mutant must be imported to be seen whole."""
        return self._coverage.is_imported(mutant)

    def original(self, file: str) -> Path:
        """Return where the text of a file stands as it is."""
        return self._tree / "unchained" / file

    def moment(self) -> int:
        """Return a time that no other file has."""
        return next(self._moments)


class _Worker:
    """One copy of the tree, with a process that holds all tests collected."""

    def __init__(self, tester: MutationTester, tree: Path, test_files: Sequence[str]) -> None:
        self._tester = tester
        self._tree = tree
        self._test_files = test_files
        self._processes: dict[str, TestProcess] = {}
        self._fork = 0
        self._interrupted = False

    def run_queue(
        self, queue: SimpleQueue[tuple[Mutant, list[str], int]], until: float
    ) -> Iterator[Verdict]:
        """Run mutants until the queue is empty or the time over."""
        try:
            while time.monotonic() < until and not self._interrupted:
                try:
                    mutant, tests, untried = queue.get_nowait()
                except Empty:
                    return
                start = time.monotonic()
                verdict = self._verdict_on(mutant, self._tester.killers_first(mutant, tests))
                if verdict.outcome == "killed":
                    self._tester.killed(mutant, verdict.by)
                taken = round(time.monotonic() - start, 2)
                yield replace(verdict, seconds=taken, tests=len(tests), untried=untried)
        finally:
            self._stop()

    def _verdict_on(self, mutant: Mutant, tests: list[str]) -> Verdict:
        if not self._tester.is_imported(mutant):
            original = str(self._tester.original(mutant.file))
            request = {"file": mutant.file, "original": original, "tests": tests}
            verdict = self._ask("serve", request, mutant)
            if verdict is not None:
                return replace(verdict, served=True)
        # What is imported costs most: first only the file of the likeliest test.
        first = self._tester.files_of(tests[:1])
        near = [test for test in tests if self._tester.files_of([test]) == first]
        far = [test for test in tests if self._tester.files_of([test]) != first]
        verdict = None
        for part in (near, far):
            if part:
                request = {"files": self._tester.files_of(part), "tests": part}
                verdict = self._ask("import", request, mutant)
                assert verdict is not None, "what is imported has its own code"
                if verdict.outcome != "survived":
                    break
        assert verdict is not None, "a mutant is run by at least one test"
        return verdict

    def interrupt(self) -> None:
        """Make `run_queue` end soon, in another thread: what it listens to is gone."""
        self._interrupted = True
        for process in list(self._processes.values()):
            process.kill()
        if self._fork:
            kill_group(self._fork)

    def _start(self, mode: str) -> TestProcess:
        if mode not in self._processes:
            names = self._test_files if mode == "serve" else self._tester.preloaded
            process = TestProcess(self._tree, mode, names)
            self._processes[mode] = process
            try:
                ready = process.answer(IMPORT_S_MAX * 5)
            except Ended:
                ready = None
            if ready is None or ready["event"] != "ready":
                raise RuntimeError(f"the tests could not be collected: {process.output}")
        return self._processes[mode]

    def _ask(self, mode: str, request: dict[str, Any], mutant: Mutant) -> Verdict | None:
        """Have a mutant run in a fork; None if its code could not be put in place of the other."""
        # First, since what the process imports must be the tree as it is.
        process = self._start(mode)
        text = mutant.apply(self._tester.original(mutant.file).read_text())
        with MutantFile(self._tree, mutant.file, text, moment=self._tester.moment()):
            process.ask(request)
            return self._follow(process, mutant)

    def _follow(self, process: TestProcess, mutant: Mutant) -> Verdict | None:
        verdict: Verdict | None = None
        needs_import = False
        test, limit = "(import)", IMPORT_S_MAX
        while True:
            try:
                said = process.answer(limit)
            except Ended:
                raise RuntimeError(f"the tests' process ended: {process.output}") from None
            match said:
                case None:
                    kill_group(self._fork)
                    verdict, limit = Verdict(mutant, "timeout", test), IMPORT_S_MAX
                case {"event": "started", "pid": pid}:
                    self._fork = pid
                case {"event": "cold"}:
                    needs_import = True
                case {"event": "uncollected"}:
                    verdict = Verdict(mutant, "killed", test)
                case {"event": "ended"}:
                    kill_group(self._fork)  # programs that its tests have left
                    self._fork = 0
                    if needs_import:
                        return None
                    return verdict or Verdict(mutant, "killed", test)
                case _:
                    test, limit, found = self._heard(said, mutant, test)
                    verdict = verdict or found

    def _stop(self) -> None:
        for process in self._processes.values():
            process.close()

    def _heard(
        self, said: dict[str, Any], mutant: Mutant, test: str
    ) -> tuple[str, float, Verdict | None]:
        """Return the test that runs, how long it may take, and a verdict if there is one."""
        match said:
            case {"event": "test", "test": begun}:
                return begun, self._tester.limit(begun), None
            case {"event": "failed", "test": failed}:
                return failed, IMPORT_S_MAX, Verdict(mutant, "killed", failed)
            case {"event": "passed"}:
                return test, IMPORT_S_MAX, Verdict(mutant, "survived")
        raise AssertionError(f"unknown answer {said}")
