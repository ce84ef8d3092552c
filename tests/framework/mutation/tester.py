"""Runs mutants against the tests that can notice them, several at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
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
    """Judges mutants with one map, in copies of one tree."""

    def __init__(
        self, tree: Path, coverage: CoverageMap, scratch: Path, limits: Limits = Limits()
    ) -> None:
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

        def work(at: int) -> None:
            try:
                tree = copy_tree(self._tree, self._scratch / f"worker{at}")
                for verdict in _Worker(self, tree, sorted(needed)).judge(queue, until):
                    verdicts.append(verdict)
                    say(verdict)
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(at,)) for at in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return verdicts

    def _choose(self, mutant: Mutant) -> tuple[list[str], int]:
        """Return the tests for a mutant, quickest first, and how many take too long together."""
        seconds = self._coverage.seconds
        tests = sorted(self._coverage.tests_for(mutant), key=lambda test: (seconds[test], test))
        chosen, total = [], 0.0
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
        self._server: TestProcess | None = None

    def judge(
        self, queue: SimpleQueue[tuple[Mutant, list[str], int]], until: float
    ) -> Iterator[Verdict]:
        """Judge mutants until the queue is empty or the time over."""
        try:
            while time.monotonic() < until:
                try:
                    mutant, tests, untried = queue.get_nowait()
                except Empty:
                    return
                start = time.monotonic()
                verdict = self._judge(mutant, self._tester.killers_first(mutant, tests))
                if verdict.outcome == "killed":
                    self._tester.killed(mutant, verdict.by)
                taken = round(time.monotonic() - start, 2)
                yield replace(verdict, seconds=taken, tests=len(tests), untried=untried)
        finally:
            self._stop()

    def _judge(self, mutant: Mutant, tests: list[str]) -> Verdict:
        original = self._tester.original(mutant.file)
        if not self._tester.is_imported(mutant):
            server = self._serve()
            text = mutant.apply(original.read_text())
            with MutantFile(self._tree, mutant.file, text, moment=self._tester.moment()):
                server.ask({"file": mutant.file, "original": str(original), "tests": tests})
                verdict = self._served(server, mutant)
            if verdict is not None:
                return replace(verdict, served=True)
        text = mutant.apply(original.read_text())
        with MutantFile(self._tree, mutant.file, text, moment=self._tester.moment()):
            return self._once(mutant, tests)

    def _serve(self) -> TestProcess:
        if self._server is None:
            self._server = TestProcess(self._tree, "serve", self._test_files)
            try:
                ready = self._server.answer(IMPORT_S_MAX * 5)
            except Ended:
                ready = None
            if ready is None or ready["event"] != "ready":
                raise RuntimeError(f"the tests could not be collected: {self._server.output}")
        return self._server

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _served(self, server: TestProcess, mutant: Mutant) -> Verdict | None:
        """Follow a fork to its end; None if its code could not be put in place of the other."""
        verdict: Verdict | None = None
        asked_for_import = False
        test, limit, pid = "", IMPORT_S_MAX, 0
        while True:
            try:
                said = server.answer(limit)
            except Ended:
                self._stop()
                raise RuntimeError(f"the tests' process ended: {server.output}") from None
            match said:
                case None:
                    kill_group(pid)
                    verdict, limit = Verdict(mutant, "timeout", test), IMPORT_S_MAX
                case {"event": "started", "pid": int(pid)}:
                    pass
                case {"event": "cold"}:
                    asked_for_import = True
                case {"event": "ended"}:
                    kill_group(pid)  # programs that its tests have left
                    if asked_for_import:
                        return None
                    return verdict or Verdict(mutant, "killed", test)
                case _:
                    test, limit, found = self._heard(said, mutant, test)
                    verdict = verdict or found

    def _once(self, mutant: Mutant, tests: list[str]) -> Verdict:
        process = TestProcess(self._tree, "once", self._tester.files_of(tests))
        test, limit = "", IMPORT_S_MAX
        try:
            process.ask({"tests": tests})
            while True:
                said = process.answer(limit)
                if said is None:
                    return Verdict(mutant, "timeout", test or "(import)")
                if said["event"] == "uncollected":
                    return Verdict(mutant, "killed", "(import)")
                test, limit, verdict = self._heard(said, mutant, test)
                if verdict is not None:
                    return verdict
        except Ended:
            return Verdict(mutant, "killed", test or "(import)")
        finally:
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
