"""The root of all protocol errors: "what the peer sent is wrong", as opposed to "we have a bug".

ProtocolError                      every rule of docs/protocol.md that can be broken
├── NonCanonicalError              bytes that are not the one encoding of a value
├── BadConditionError              bytes that are not a condition
└── ...                            consensus.errors: coins, anchors, transfers, exports

A bug of ours is never a `ProtocolError`: it stays an ordinary exception and is not swallowed.
"""

from __future__ import annotations

from typing import ClassVar

from unchained.node.base.user_text import user_text


class ProtocolError(Exception):
    """A rule of the protocol was broken. `name` is the rule's name in docs/protocol.md.

    `expected` and `actual` say in what way, in words or values fit for a log line. The text, which
    begins with the rule's name, is for logs; what people read is `in_words`.
    """

    name: ClassVar[str] = "PROTOCOL_ERROR"

    def __init__(self, *, expected: object = None, actual: object = None) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return told(self.name, self.expected, self.actual)

    def in_words(self) -> str:
        """Return what is wrong without the rule's name, for people."""
        return told(words_of(self), self.expected, self.actual)


def words_of(broken: Exception) -> str:
    """Return what the class of a broken rule says of itself, as it follows a colon."""
    line = (type(broken).__doc__ or "").partition("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]


def told(what: str, expected: object, actual: object) -> str:
    """Return what is wrong, with what was expected and what came."""
    how = difference(expected, actual)
    return f"{what}: {how}" if how else what


def difference(expected: object, actual: object) -> str:
    """Return what was expected and what came, as far as either is known."""
    parts = []
    if expected is not None:
        parts.append(f"expected {expected}")
    if actual is not None:
        parts.append(f"got {actual}")
    return ", ".join(parts)


@user_text("The bytes are not the canonical encoding of a value of the layout (Protocol §2).")
class NonCanonicalError(ProtocolError):
    name = "NON_CANONICAL"


@user_text("The bytes are not a condition of a known kind (Protocol §8.1).")
class BadConditionError(ProtocolError):
    name = "BAD_CONDITION"
