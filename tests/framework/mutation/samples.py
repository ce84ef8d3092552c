"""What samples have found, room by room, where a whole run takes a night: kept as data, and shown.

`docs/data/mutation-samples.json` has for each room how many of its mutants were drawn by which seed
at which commit, by how near tests they were tried, and how many ended how. One that lives after the
tests that it met counts as a survivor, whatever others there are: the share is a lower bound.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.framework.mutation.catalogue import room_of
from tests.framework.mutation.mutants import Mutant
from tests.framework.mutation.published import TEXT
from tests.framework.mutation.report import ALIVE, OUTCOMES, read_json, share
from tests.framework.mutation.tester import Verdict

SAMPLES: Final = "docs/data/mutation-samples.json"
BEGIN: Final = "<!-- samples: made by scripts/mutate --sample --publish -->"
END: Final = "<!-- end of samples -->"
TESTS_OF_TIERS: Final = {
    1: "unit tests of the module",
    2: "unit tests of the room",
    3: "unit and property tests",
}
"""Which tests a mutant has met after so many tiers; all, if there was no bound."""


def rows_of(
    all_of_rooms: Sequence[Mutant],
    drawn: Sequence[Mutant],
    verdicts: Sequence[Verdict],
    reasons: Collection[str],
) -> dict[str, dict[str, int]]:
    """Return for each room how many mutants it has, how many were drawn, and how these ended."""
    ended = {verdict.mutant.id: verdict.outcome for verdict in verdicts}
    found: dict[str, Counter[str]] = {}
    for mutant in drawn:
        # One without a verdict lives, and has not met all tests.
        outcome: str = ended.get(mutant.id, "survived")
        if outcome in ALIVE and mutant.id in reasons:
            outcome = "explained"
        found.setdefault(room_of(mutant.file), Counter())[outcome] += 1
    sizes = Counter(room_of(mutant.file) for mutant in all_of_rooms)
    return {
        room: {"mutants": sizes[room], "drawn": sum(counts.values())}
        | {name: counts[name] for name in OUTCOMES}
        for room, counts in found.items()
    }


def publish_samples(
    root: Path,
    rows: Mapping[str, Mapping[str, int]],
    *,
    seed: int,
    tiers: int | None,
    commit: str,
) -> None:
    """Keep what samples of some rooms have found, and show all that is kept."""
    kept: dict[str, Any] = read_json(root / SAMPLES)
    for room, row in rows.items():
        kept[room] = {"commit": commit, "seed": seed, "tiers": tiers, **row}
    (root / SAMPLES).parent.mkdir(parents=True, exist_ok=True)
    (root / SAMPLES).write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    text = root / TEXT
    if text.exists():
        text.write_text(with_samples(text.read_text(), samples_table(kept)))


def with_samples(text: str, shown: str) -> str:
    """Return a text with this between the two marks; unchanged where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}" if begin else text


def samples_table(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is kept in Markdown."""
    names = ("room", "mutants", "drawn", *OUTCOMES, "share killed", "by", "seed", "commit")
    lines = [f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 4) + "|---|---:|---|"]
    for room, row in sorted(kept.items()):
        numbers = " | ".join(str(row[name]) for name in ("mutants", "drawn", *OUTCOMES))
        by = TESTS_OF_TIERS.get(row["tiers"] or 0, "all tests")
        lines.append(
            f"| {room} | {numbers} | {share(row):.1%} | {by} | {row['seed']} | {row['commit']} |"
        )
    return "\n".join(lines)
