"""Ids that are given by their first characters: which one is meant."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

CANDIDATES_SHOWN: Final = 5
"""Ids that a prefix may stand for, as an error lists them."""

PEER_BEGINS: Final = "12D3KooW"
"""How the id of every peer with an Ed25519 key begins: so much of it says nothing."""

PEER_SHORT: Final = len(PEER_BEGINS) + 4
"""Characters by which a peer's id may be given, at least."""

_BASE58: Final = "[1-9A-HJ-NP-Za-km-z]"
_PEER_PREFIX: Final = re.compile(rf"12D3{_BASE58}{{0,47}}|Qm{_BASE58}{{0,43}}", re.ASCII)
"""All but a whole id."""


class ShortIdError(ValueError):
    """It is not clear which id is meant; the text is one line."""


def is_short_peer(text: str) -> bool:
    """Return whether a text is the beginning of a peer's id. Raises `ShortIdError` where it is too
    short to say which."""
    if not _PEER_PREFIX.fullmatch(text):
        return False
    if len(text) < PEER_SHORT:
        why = f", since all begin with {PEER_BEGINS}" if PEER_BEGINS.startswith(text[:4]) else ""
        raise ShortIdError(
            f"{text} is too short for a peer's id: expected all of it, or its first {PEER_SHORT} "
            f"characters or more{why}"
        )
    return True


def one_of(given: str, found: Collection[str], unknown: str) -> str:
    """Return the one id of those found that begin as given. Raises `ShortIdError`, which says
    `unknown` where there is none."""
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise ShortIdError(unknown)
    candidates = ", ".join(sorted(found)[:CANDIDATES_SHOWN])
    more = " and others" if len(found) > CANDIDATES_SHOWN else ""
    raise ShortIdError(f"{given} could be {candidates}{more}: give more of it")
