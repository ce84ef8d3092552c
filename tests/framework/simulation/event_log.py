"""Everything that happens in a simulation, in order, and one hash of it all."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import trio


class LoggedEvent(NamedTuple):
    """`at_ms` of virtual time since the beginning; `node` names whom it befell, empty for all."""

    at_ms: int
    node: str
    kind: str
    data: dict[str, Any]


class EventLog:
    """Keeps and hashes events; two runs with one hash are the same run."""

    def __init__(self) -> None:
        self.events: list[LoggedEvent] = []
        self._hash = hashlib.sha256()

    def note(self, node: str, kind: str, /, **data: Any) -> None:
        """Note what happened to a node at this moment. Data are what JSON knows, or bytes."""
        event = LoggedEvent(int(trio.current_time() * 1000), node, kind, data)
        self.events.append(event)
        self._hash.update(json.dumps(event, default=plain, sort_keys=True).encode() + b"\n")

    def note_hashed(self, text: str) -> None:
        """Let a line count for the hash alone: what is of no use to whoever looks at a run."""
        self._hash.update(text.encode() + b"\n")

    def hash(self) -> str:
        """Return the hash of all events so far, in hexadecimal."""
        return self._hash.copy().hexdigest()


def plain(value: Any) -> str:
    """Return what stands in JSON for what JSON does not know."""
    return value.hex() if isinstance(value, bytes) else str(value)
