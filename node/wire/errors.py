"""What can be wrong with an answer, as opposed to with the objects in it.

    AnswerError
    +-- MalformedAnswerError   bytes that are no answer
    +-- MismatchedAnswerError  an answer to something else than was asked: a lie
    +-- RefusedAnswerError     the peer gave nothing, and said so: nobody's fault

Bytes that are not canonical raise `primitives.errors.NonCanonicalError`.
"""

from __future__ import annotations


class AnswerError(Exception):
    """An answer that is of no use. `exchange` names the kind of request."""

    def __init__(self, exchange: str, expected: str, actual: str) -> None:
        super().__init__(f"{exchange}: expected {expected}, got {actual}")
        self.exchange = exchange
        self.expected = expected
        self.actual = actual


class MalformedAnswerError(AnswerError):
    """Bytes that are no answer."""


class MismatchedAnswerError(AnswerError):
    """The answer does not belong to the request: other ids, order, number or commitment."""


class RefusedAnswerError(AnswerError):
    """The peer gave nothing; `actual` is the name of its code."""

    def __init__(self, exchange: str, code: str) -> None:
        super().__init__(exchange, "an answer", code)
