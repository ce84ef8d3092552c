"""Spans: what a piece of work is about, in every event that is logged while it goes on.

They follow tasks, and worker threads that tasks hand work to.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

from structlog.contextvars import bound_contextvars

Subject = Literal["service", "anchor", "coin", "transfer", "peer"]


def span(subject: Subject, name: object) -> AbstractContextManager[None]:
    """Let the events inside the block say what they are about: a name, or an id as bytes."""
    # An id becomes text only where an event is written.
    return bound_contextvars(**{subject: name})
