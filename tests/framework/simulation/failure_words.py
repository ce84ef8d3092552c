"""What is told of a failure: one line, and where it comes from."""

from __future__ import annotations

import traceback
from contextlib import suppress

from tests.framework.simulation.invariants import InvariantBrokenError


def innermost(error: BaseException) -> BaseException:
    """Return the first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def first_line(error: BaseException) -> str:
    """Return one line that says what went wrong."""
    error = innermost(error)
    text = " ".join(str(error).split())
    return text if isinstance(error, InvariantBrokenError) else f"{type(error).__name__}: {text}"


def trace_of(error: BaseException) -> str:
    """Return where an error comes from."""
    with suppress(Exception):
        return "".join(traceback.format_exception(innermost(error)))
    return repr(error)
