"""Canonical MessagePack: arrays, byte strings and unsigned integers in shortest form (Protocol §2).

A layout is a `msgspec.Struct` with `array_like=True`. The decoder is driven by the layout, so
depth is bounded by it; msgspec grows what it decodes as the bytes come, so no count in the
input allocates anything by itself; re-encoding catches all that msgspec would be lenient about.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from unchained.node.primitives.errors import NonCanonicalError

T = TypeVar("T")

_ENCODER = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """Return the canonical bytes of a layout, or of nested sequences of bytes and integers."""
    return _ENCODER.encode(value)


class CanonicalDecoder(Generic[T]):
    """Decodes one layout and rejects every encoding of it but the canonical one.

    `max_size` bounds the input in bytes, before anything is decoded.
    """

    __slots__ = ("_decoder", "_max_size", "_name")

    def __init__(self, layout: type[T], *, max_size: int) -> None:
        self._decoder = msgspec.msgpack.Decoder(layout)
        self._max_size = max_size
        self._name = getattr(layout, "__name__", str(layout))

    def decode(self, raw: bytes) -> T:
        """Return the value whose canonical encoding is `raw`.

        Raises `NonCanonicalError` for anything else, of whatever length and content.
        """
        if len(raw) > self._max_size:
            raise NonCanonicalError(
                expected=f"{self._name} of at most {self._max_size} bytes",
                actual=f"{len(raw)} bytes",
            )
        try:
            value = self._decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            is_cut = str(error) == "Input data was truncated"
            actual = f"{len(raw)} bytes that break off" if is_cut else str(error)
            raise NonCanonicalError(expected=self._name, actual=actual) from None
        # Protocol §2: what does not encode to the same bytes is not canonical
        if _ENCODER.encode(value) != raw:
            raise NonCanonicalError(
                expected=f"{self._name} in shortest form, without trailing data",
                actual=f"{len(raw)} other bytes",
            )
        return value
