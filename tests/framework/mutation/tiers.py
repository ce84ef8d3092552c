"""Mutants meet the tests nearest to them first: what those kill needs no map of any others.

Which test runs which line has to be watched again for every test file that imports a changed
module, and watching takes several times as long as the tests. Most mutants are killed by the unit
tests of their own module; only what is left goes on to those of the room, and then to the others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tests.framework.mutation.catalogue import room_of
from tests.framework.mutation.coverage_map import CoverageMap, MapMaker
from tests.framework.mutation.mutants import Mutant
from tests.framework.mutation.report import ALIVE, describe
from tests.framework.mutation.tester import Limits, MutationTester, Verdict


def tiers_of(tests: Sequence[str], files: Iterable[str]) -> list[list[str]]:
    """Return test files in the order in which mutants of some files meet them.

    The unit tests of those files (test_NAME*.py of their rooms); the other unit tests of their
    rooms; all other unit and property tests; simulations and the rest.
    """
    rooms = {file: f"tests/unit/{room_of(file)}/" for file in files}
    heads = (
        tuple(f"{room}test_{PurePosixPath(file).stem}" for file, room in rooms.items()),
        tuple(rooms.values()),
        ("tests/unit/", "tests/property/"),
        ("",),
    )
    tiers: list[list[str]] = [[] for _ in heads]
    for test in tests:
        tiers[next(at for at, head in enumerate(heads) if test.startswith(head))].append(test)
    return [tier for tier in tiers if tier]


class TieredRun:
    """Runs mutants through one tier of tests after the other, in copies of one tree."""

    def __init__(
        self,
        tree: Path,
        maker: MapMaker,
        watched: Sequence[str],
        scratch: Path,
        limits: Limits,
        workers: int,
        say: Callable[[str], None],
    ) -> None:
        self._tree = tree
        self._maker = maker
        self._watched = watched
        self._scratch = scratch
        self._limits = limits
        self._workers = workers
        self._say = say
        self._verdicts: dict[str, Verdict] = {}
        self._met: Counter[str] = Counter()
        """How many tiers each mutant has met."""

    def run(
        self,
        mutants: Sequence[Mutant],
        tests: Sequence[str],
        until: float,
        explained: Collection[str] = (),
        most: int | None = None,
    ) -> list[Verdict]:
        """Return what became of each mutant that has met all of its tests, or one that kills it,
        and was begun before `until` (monotonic seconds).

        Those of which it is `explained` why no test can tell them meet the first tier alone. Of
        those that live after `most` tiers nothing is returned.
        """
        touched = {mutant.file for mutant in mutants}
        tests = [test for test in tests if not touched.isdisjoint(self._maker.closure(test))]
        tiers = tiers_of(tests, touched)
        left = list(mutants)
        for number, tier in enumerate(tiers, 1):
            if time.monotonic() >= until or (most is not None and number > most):
                break  # before more tests are watched
            left = self._run_tier(left, tier, number, len(tiers), until)
            left = [mutant for mutant in left if mutant.id not in explained]
            if not left:
                break
        if not tiers:
            return [Verdict(mutant, "unreached") for mutant in mutants]
        found = [self._verdicts[mutant.id] for mutant in mutants if mutant.id in self._verdicts]
        return [
            verdict
            for verdict in found
            if verdict.outcome not in ALIVE
            or verdict.mutant.id in explained
            or self._met[verdict.mutant.id] == len(tiers)
        ]

    def _run_tier(
        self,
        mutants: Sequence[Mutant],
        tests: Sequence[str],
        number: int,
        tiers: int,
        until: float,
    ) -> list[Mutant]:
        """Run mutants by some test files; return those that live."""
        start = time.monotonic()
        name = f"tier {number} of {tiers}"
        scratch = self._scratch / name.replace(" ", "-")
        scratch.mkdir()
        maps = self._maker.make(tests, scratch, self._workers, self._say)
        coverage = CoverageMap(self._tree, maps, self._watched)
        for test in coverage.failing:
            self._say(f"left out, it fails with no mutant: {test}")
        self._say(
            f"{name}: {len(mutants)} mutants, {len(coverage.seconds)} tests of {len(maps)} files "
            f"mapped in {time.monotonic() - start:.0f} s"
        )
        done = 0

        def say(verdict: Verdict) -> None:
            nonlocal done
            done += 1
            lives_so_far = verdict.outcome in ALIVE and number < tiers
            told = f"{verdict.mutant.id}: {'lives' if lives_so_far else describe(verdict)}"
            self._say(f"[{done}/{len(mutants)}] {verdict.seconds:.1f} s {told}")

        tester = MutationTester(self._tree, coverage, scratch, self._limits)
        for verdict in tester.run(mutants, self._workers, until, say):
            self._note(verdict)
        return [
            mutant
            for mutant in mutants
            if mutant.id not in self._verdicts or self._verdicts[mutant.id].outcome in ALIVE
        ]

    def _note(self, verdict: Verdict) -> None:
        """Put what a tier has found together with what those before it did."""
        self._met[verdict.mutant.id] += 1
        before = self._verdicts.get(verdict.mutant.id)
        if before is not None:
            outcome = before.outcome if verdict.outcome == "unreached" else verdict.outcome
            verdict = replace(
                verdict,
                outcome=outcome,
                seconds=round(before.seconds + verdict.seconds, 2),
                tests=before.tests + verdict.tests,
                untried=before.untried + verdict.untried,
            )
        self._verdicts[verdict.mutant.id] = verdict
