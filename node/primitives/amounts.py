"""Amounts as people write them: decimal strings in UNC, never anything else.

digits [ "." one to eight digits ]
"""

from __future__ import annotations

import re
from typing import Final

from unchained.node.primitives.types import GRAINS_PER_UNC, MAX_AMOUNT

AMOUNT_PATTERN: Final = r"^(0|[1-9][0-9]{0,10})(\.[0-9]{1,8})?$"
"""What `grains_of` takes, as a regular expression that schemas can show."""

DECIMALS: Final = 8
_AMOUNT: Final = re.compile(AMOUNT_PATTERN.removeprefix("^").removesuffix("$"), re.ASCII)
_TOO_LONG: Final = re.compile(r"[1-9][0-9]{11,}(\.[0-9]{1,8})?", re.ASCII)
_SHOWN: Final = 40
"""Characters that a refusal repeats of what it was given."""


def grains_of(text: str) -> int:
    """Return the grains of an amount in UNC. Raises ValueError, which says what was expected."""
    if _AMOUNT.fullmatch(text) is None:
        if _TOO_LONG.fullmatch(text) is not None:
            raise ValueError(_too_large(f"{text[:_SHOWN]}{'…' * (len(text) > _SHOWN)}"))
        raise ValueError(
            f"{text[:_SHOWN]!r} is no amount: expected UNC with at most {DECIMALS} decimals, "
            'as "1.5"'
        )
    whole, _, part = text.partition(".")
    grains = int(whole) * GRAINS_PER_UNC + int(part.ljust(DECIMALS, "0"))
    if grains > MAX_AMOUNT:
        raise ValueError(_too_large(text))
    return grains


def check_amount(grains: int, least: int) -> None:
    """Check that an amount is at least so large, and no larger than there can be. Raises
    ValueError, which says which of the two."""
    if grains < least:
        raise ValueError(f"{shortest(grains)} UNC is too small: expected {shortest(least)} or more")
    if grains > MAX_AMOUNT:
        raise ValueError(_too_large(shortest(grains)))


def _too_large(text: str) -> str:
    return f"{text} UNC is too large: expected at most {full(MAX_AMOUNT)}"


def shortest(grains: int) -> str:
    """Return grains in UNC, with as few decimals as it takes."""
    return full(grains).rstrip("0").rstrip(".")


def full(grains: int) -> str:
    """Return grains in UNC, with eight decimals."""
    whole, part = divmod(abs(grains), GRAINS_PER_UNC)
    return f"{'-' if grains < 0 else ''}{whole}.{part:0{DECIMALS}d}"
