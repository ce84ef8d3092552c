"""Texts that users read, given to what they describe.

Python started with ``-OO`` strips docstrings: the help of a command, and what `rpc.discover` says
of a method or a result, would be gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def user_text(text: str) -> Callable[[T], T]:
    """Make `text` the description of a function or class, where docstrings are stripped too.

    Its first paragraph is the summary. Indentation as in a docstring.
    """

    def describe(thing: T) -> T:
        thing.__doc__ = text
        return thing

    return describe
