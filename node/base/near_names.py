"""Which of the names that there are was meant by one that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

GUESS_CHARS_MAX: Final = 64
"""Longest unknown name, in characters, that is compared to the known ones."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean "x"?` for the known name nearest to a name, or nothing."""
    if len(name) > GUESS_CHARS_MAX:
        return ""
    name = name.lower()
    near = get_close_matches(name, list(known))
    if not near:
        return ""
    # Who types `regtest` means reg, though test is as near.
    meant = next((each for each in near if name.startswith(each)), near[0])
    return f'did you mean "{meant}"?'
