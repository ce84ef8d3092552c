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
_SHOWN: Final = 40
"""Characters that a refusal repeats of what it was given."""


def grains_of(text: str) -> int:
    """Return the grains of an amount in UNC. Raises ValueError, which says what was expected."""
    if _AMOUNT.fullmatch(text) is None:
        raise ValueError(
            f"{text[:_SHOWN]!r} is no amount: expected UNC with at most {DECIMALS} decimals, "
            'as "1.5"'
        )
    whole, _, part = text.partition(".")
    grains = int(whole) * GRAINS_PER_UNC + int(part.ljust(DECIMALS, "0"))
    if grains > MAX_AMOUNT:
        raise ValueError(f"{text} UNC is more than the largest amount, {full(MAX_AMOUNT)}")
    return grains


def shortest(grains: int) -> str:
    """Return grains in UNC, with as few decimals as it takes."""
    return full(grains).rstrip("0").rstrip(".")


def full(grains: int) -> str:
    """Return grains in UNC, with eight decimals."""
    whole, part = divmod(abs(grains), GRAINS_PER_UNC)
    return f"{'-' if grains < 0 else ''}{whole}.{part:0{DECIMALS}d}"
