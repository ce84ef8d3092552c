"""The fields of an RPC, counted before it is parsed.

A MiB of empty ones takes up to 50 ms to parse, and longer to read; nobody else gets a turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from unchained.node.transport.gossip_limits import RPC_ENTRIES_MAX, RPC_IDS_MAX, RPC_MESSAGES_MAX

RPC_FIELDS_MAX: Final = RPC_IDS_MAX + 4 * (RPC_ENTRIES_MAX + RPC_MESSAGES_MAX)
"""Fields of an RPC at all depths; no list within its limits comes to so many."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LENGTHS: Final = {_FIXED64: 8, _FIXED32: 4}

Schema = Mapping[int, "Schema"]
"""The fields of a message that are messages themselves, by number."""

_LEAF: Final[Schema] = {}
_CONTROL: Final[Schema] = dict.fromkeys(range(1, 6), _LEAF)
_RPC: Final[Schema] = {1: _LEAF, 2: _LEAF, 3: _CONTROL}


class BadRpcError(Exception):
    """Bytes that are no RPC, or one that is not allowed."""


def count_fields(data: bytes) -> int:
    """Return how many fields an RPC has at all depths; raises `BadRpcError` beyond
    `RPC_FIELDS_MAX`, and for what is no protobuf."""
    return _count(data, 0, len(data), _RPC, 0)


def _count(data: bytes, at: int, end: int, schema: Schema, fields: int) -> int:
    while at < end:
        fields += 1
        if fields > RPC_FIELDS_MAX:
            raise BadRpcError(f"more than {RPC_FIELDS_MAX} fields")
        # Nearly all tags and lengths are of one byte.
        tag, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at, end)
        kind = tag & 7
        if kind == _BYTES:
            if at < end and data[at] < 0x80:
                length, at = data[at], at + 1
            else:
                length, at = _varint(data, at, end)
            if tag >> 3 in schema and at + length <= end:
                fields = _count(data, at, at + length, schema[tag >> 3], fields)
            at += length
        elif kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind in _LENGTHS:
            at += _LENGTHS[kind]
        else:
            raise BadRpcError(f"no RPC: a field of type {kind}")
    if at > end:
        raise BadRpcError("no RPC: a field longer than what it is in")
    return fields


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise BadRpcError("no RPC: a number without an end")
