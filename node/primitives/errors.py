"""The root of all protocol errors: "what the peer sent is wrong", as opposed to "we have a bug".

ProtocolError                      every rule of docs/protocol.md that can be broken
├── NonCanonicalError              bytes that are not the one encoding of a value
├── BadConditionError              bytes that are not a condition
└── ...                            consensus.errors: coins, anchors, transfers, exports

A bug of ours is never a `ProtocolError`: it stays an ordinary exception and is not swallowed.
"""

from __future__ import annotations

from typing import ClassVar


class ProtocolError(Exception):
    """A rule of the protocol was broken. `name` is the rule's name in docs/protocol.md.

    `expected` and `actual` say in what way, in words or values fit for a log line.
    """

    name: ClassVar[str] = "PROTOCOL_ERROR"

    def __init__(self, *, expected: object = None, actual: object = None) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        parts = [self.name]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.actual is not None:
            parts.append(f"got {self.actual}")
        return ": ".join((parts[0], ", ".join(parts[1:]))) if len(parts) > 1 else parts[0]


class NonCanonicalError(ProtocolError):
    """The bytes are not the canonical encoding of a value of the layout (Protocol §2)."""

    name = "NON_CANONICAL"


class BadConditionError(ProtocolError):
    """The bytes are not a condition of a known kind (Protocol §8.1)."""

    name = "BAD_CONDITION"
