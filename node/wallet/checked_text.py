"""Bytes that people carry as text: what notices that it was mistyped or cut.

text = PREFIX ‖ base64url without padding of (bytes ‖ checksum, 4 bytes)
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from unchained.node.primitives.hashing import HashContext

_CHECKSUM_SIZE: Final = 4


class MalformedTextError(ValueError):
    """A text is none of its kind; the message is the end of a line that names the kind."""


class CheckedText(msgspec.Struct, frozen=True):
    """One kind of text: what it begins with, and what its checksum is made by."""

    prefix: str
    checksum: HashContext

    def write(self, raw: bytes) -> str:
        """Return the text of some bytes."""
        body = base64.urlsafe_b64encode(raw + self._check(raw)).rstrip(b"=").decode()
        return self.prefix + body

    def read(self, text: str) -> bytes:
        """Return the bytes of a text; there is one text for them alone. Raises
        `MalformedTextError`."""
        body = text.removeprefix(self.prefix)
        if body == text:
            raise MalformedTextError(f"expected {self.prefix}…")
        try:
            content = base64.urlsafe_b64decode(body.encode("ascii") + b"=" * (-len(body) % 4))
        except (binascii.Error, UnicodeEncodeError):
            raise MalformedTextError("it is base64url without padding") from None
        raw, check = content[:-_CHECKSUM_SIZE], content[-_CHECKSUM_SIZE:]
        if self._check(raw) != check:
            raise MalformedTextError("its checksum is wrong: mistyped or cut")
        if self.write(raw) != text:
            raise MalformedTextError("it is base64url without padding, and nothing else")
        return raw

    def _check(self, raw: bytes) -> bytes:
        return self.checksum(raw)[:_CHECKSUM_SIZE]
