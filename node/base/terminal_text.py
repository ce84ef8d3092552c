"""Text as a terminal may have it: nothing that it would obey, nor more than there is room for."""

from __future__ import annotations

import re
from typing import Final

import msgspec

COMMAND: Final = re.compile(r"""(?<![^\s(])`((?:[^`'"]|'[^']*'|"[^"]*")+)`(?!\w)""")
"""A command in backticks within a sentence; what it has in a shell's quotes may hold more of them,
and so may what stands outside of it, such as a path."""


def harmless(text: str) -> str:
    """Return a text without what a terminal would obey: control characters, and those that turn
    the direction of writing."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def json_line(value: object) -> str:
    """Return a value as JSON on one line; what a terminal would obey is escaped."""
    text = msgspec.json.encode(value).decode()
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    units = sign.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def ends(text: str, most: int, first: int, last: int) -> str:
    """Return a text whole if it has at most so many characters, else its first and last ones."""
    return text if len(text) <= most else f"{text[:first]}…{text[-last:]}"
