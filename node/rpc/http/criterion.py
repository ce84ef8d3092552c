"""Whether a node can be relied upon: criteria, each with its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

OK: Final = "ok"
"""How the words of a criterion that is met begin."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One reason to rely upon a node, or not: `value` is judged by `limit`, both in `unit`; None
    where nothing is known, or there is no limit. `says` is one line for people."""

    name: str
    met: bool
    value: float | None
    limit: float | None
    unit: str
    says: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the node can be relied upon, each check in one line, and as a number."""

    ready: bool
    checks: Mapping[str, str]
    criteria: tuple[Criterion, ...] = ()


class ReadinessSource(Protocol):
    """Who can say whether the node can be relied upon."""

    def check(self) -> Readiness:
        """Return the state of each check."""


def waits_for(readiness: Readiness | None) -> str | None:
    """Return in words what a miner waits for that has no work; None where that is not known."""
    says = "" if readiness is None else readiness.checks["synced"]
    return None if not says or says.startswith(OK) else says.removeprefix("not known: ")
