"""What a run says: survivors with what they change, and the share killed beside the published."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.framework.mutation.catalogue import is_strict, room_of
from tests.framework.mutation.tester import Verdict

REASONS: Final = "docs/data/mutation-reasons.json"
PUBLISHED: Final = "docs/data/mutation.json"
ALIVE: Final = ("survived", "unreached")
OUTCOMES: Final = ("killed", "timeout", "explained", "survived", "unreached")
"""What a mutant may come to; an explained one lives, and a reason says why no test can tell."""


Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """The verdicts of a run, summed up; `whole` are the files of which every mutant was run."""

    verdicts: Sequence[Verdict]
    reasons: Mapping[str, str]
    published: Mapping[str, Mapping[str, Any]]
    whole: frozenset[str]

    @property
    def unexplained(self) -> list[Verdict]:
        """Survivors that must not be, and have no reason."""
        return [
            verdict
            for verdict in self.verdicts
            if verdict.outcome in ALIVE
            and is_strict(verdict.mutant.file)
            and verdict.mutant.id not in self.reasons
        ]

    @property
    def idle_reasons(self) -> list[str]:
        """Reasons for mutants that some test kills."""
        killed = {each.mutant.id for each in self.verdicts if each.outcome not in ALIVE}
        return sorted(killed.intersection(self.reasons))

    @property
    def by_file(self) -> dict[str, Counts]:
        """How many mutants of each file ended how."""
        return self._counts(lambda verdict: verdict.mutant.file)

    @property
    def by_room(self) -> dict[str, Counts]:
        """How many mutants of each room ended how."""
        return self._counts(lambda verdict: room_of(verdict.mutant.file))

    def _counts(self, group_of: Callable[[Verdict], str]) -> dict[str, Counts]:
        """Count by a group; those with a reason are counted apart."""
        found: dict[str, Counter[str]] = {}
        for verdict in self.verdicts:
            explained = verdict.outcome in ALIVE and verdict.mutant.id in self.reasons
            outcome = "explained" if explained else verdict.outcome
            found.setdefault(group_of(verdict), Counter())[outcome] += 1
        return {group: {name: counts[name] for name in OUTCOMES} for group, counts in found.items()}

    @property
    def fallen(self) -> list[str]:
        """Files of which a smaller share is killed than was published."""
        return [
            file
            for file, counts in self.by_file.items()
            if file in self.whole
            and file in self.published
            and share(counts) < share(self.published[file])
        ]

    @property
    def passed(self) -> bool:
        """Whether nothing has survived that must not, and no file has fallen."""
        return not self.unexplained and not self.fallen

    def lines(self, sources: Mapping[str, str]) -> Iterable[str]:
        """Return the report for people; `sources` are the texts of the mutated files."""
        alive = [verdict for verdict in self.verdicts if verdict.outcome in ALIVE]
        for verdict in sorted(alive, key=lambda each: each.mutant.id):
            mutant = verdict.mutant
            yield f"\n{mutant.id}: {describe(verdict)}"
            if mutant.id in self.reasons:
                yield f"  reason: {self.reasons[mutant.id]}"
                continue
            yield mutant.diff(sources[mutant.file]).rstrip()
        yield ""
        for room, counts in sorted(self.by_room.items()):
            told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
            yield f"{room:<12} {share(counts):6.1%} killed: {told}"
        for mutant_id in self.idle_reasons:
            yield f"a reason that is not needed, the mutant is killed: {mutant_id}"
        for file in self.fallen:
            yield f"{file}: fewer are killed than the {share(self.published[file]):.1%} published"
        if self.unexplained:
            yield f"{len(self.unexplained)} survive where none may without a reason in {REASONS}"

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "passed": self.passed,
            "rooms": self.by_room,
            "files": self.by_file,
            "whole": sorted(self.whole),
            "mutants": [
                {
                    "id": verdict.mutant.id,
                    "outcome": verdict.outcome,
                    "by": verdict.by,
                    "seconds": verdict.seconds,
                    "tests": verdict.tests,
                    "untried": verdict.untried,
                    "text": verdict.mutant.text,
                }
                for verdict in self.verdicts
            ],
        }


def describe(verdict: Verdict) -> str:
    """Return in words what became of a mutant."""
    match verdict.outcome:
        case "killed":
            return f"killed by {verdict.by}"
        case "timeout":
            return f"hangs in {verdict.by}"
        case "unreached":
            return "SURVIVES, no test runs it"
        case _:
            rest = f", {verdict.untried} slower ones not tried" if verdict.untried else ""
            return f"SURVIVES {verdict.tests} tests{rest}"


def share(counts: Mapping[str, Any]) -> float:
    """Return which share of some mutants is killed, of those that no reason excuses."""
    killed = counts["killed"] + counts["timeout"]
    total = killed + counts["survived"] + counts["unreached"]
    return killed / total if total else 1.0


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of data holds; nothing if there is none."""
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text())
    return found
