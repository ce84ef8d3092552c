"""The fork choice in words: which branch leads, and by how many votes (Protocol §6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Final

import msgspec

from unchained.node.base.number_words import number_of
from unchained.node.rpc.web.texts import short_hash

Anchor = Mapping[str, Any]
"""An anchor as `chain.tree` gives it."""

BRANCHES_NAMED_MAX: Final = 4


class RivalBranch(msgspec.Struct, frozen=True):
    """A branch at a fork: its first anchor, the votes for all of it, and its score."""

    name: str
    id: str
    votes: int
    length: int
    score: str
    status: str


class Contest(msgspec.Struct, frozen=True):
    """A place where anchors compete for one parent, and how that stands. `lead` in votes."""

    height: int
    branches: list[RivalBranch]
    lead: float
    text: str


def contests(anchors: Sequence[Anchor]) -> list[Contest]:
    """Return the forks among some anchors, the highest first."""
    children = defaultdict(list)
    for anchor in anchors:
        if anchor["score"] is not None:
            children[anchor["parent"]].append(anchor)
    rivals = [found for found in children.values() if len(found) > 1]
    rivals.sort(key=lambda found: -int(found[0]["height"]))
    return [_contest(found, children) for found in rivals]


def explain(found: Sequence[Contest], heights: int) -> str:
    """Return one sentence on how the fork choice stands."""
    if not found:
        return f"No fork in the last {heights} epochs: every coin votes for one chain."
    return found[0].text


def _contest(rivals: list[Anchor], children: Mapping[str, list[Anchor]]) -> Contest:
    # Protocol §6: "on a tie to the child of lower id"
    ranked = sorted(rivals, key=lambda one: (-int(one["score"]), one["id"]))
    # What the chain follows comes first, also where the best is dead and passed by.
    ranked.sort(key=lambda one: one["status"] != "main")
    branches = [
        RivalBranch(name, one["id"], *_weight(one, children), one["score"], one["status"])
        for name, one in zip(ascii_uppercase, ranked[:BRANCHES_NAMED_MAX], strict=False)
    ]
    first, second = ranked[:2]
    # Protocol §6: "score(X) = 2 * sub(X) + ...": a vote counts twice its work
    lead = (int(first["score"]) - int(second["score"])) / (2 * max(1, int(first["work"])))
    height = int(first["height"])
    return Contest(height, branches, round(lead, 1), _sentence(height, len(ranked), branches, lead))


def _weight(start: Anchor, children: Mapping[str, list[Anchor]]) -> tuple[int, int]:
    """Return the votes for an anchor and all above it, and how many anchors its longest chain
    has."""
    votes, length = 0, 0
    waiting = [(start, 1)]
    while waiting:
        anchor, depth = waiting.pop()
        votes += anchor["votes"]
        length = max(length, depth)
        waiting.extend((child, depth + 1) for child in children.get(anchor["id"], ()))
    return votes, length


def _sentence(height: int, count: int, branches: Sequence[RivalBranch], lead: float) -> str:
    one, other = branches[:2]
    where = f"At height {height:,}, {count} anchors compete: "
    ours = f"{one.name} ({short_hash(one.id)}, {_votes(one.votes)})"
    theirs = f"{other.name} ({short_hash(other.id)}, {_votes(other.votes)})"
    if other.status == "dead":
        return where + f"{other.name} cannot be connected, so {ours} is followed."
    if lead < 0:
        return where + f"{ours} is followed although {theirs} has the greater score."
    if round(lead, 1) == 0:
        return where + f"{ours} and {theirs} are level; the lower id wins."
    by = f"{lead:.1f}".removesuffix(".0")
    return where + f"{ours} leads {theirs} by {by} {'vote' if by == '1' else 'votes'}."


def _votes(count: int) -> str:
    return number_of(count, "vote")
