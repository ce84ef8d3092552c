"""Signatures for programs: the same each time, and made in microseconds.

The library signs at random, so that ids would differ from run to run, and pure Python takes 42 ms
for each. A program does not ask whether ML-DSA is right, for which there are known answers, but
what becomes of transfers that are signed well or badly: so inside a program a signature is a hash
of key and message, and the one function that verifies signatures for the rules says whether it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from unchained.node.consensus import transfers
from unchained.node.primitives.transfer import SIGNATURE_SIZE


def toy_signature(public_key: bytes, message: bytes) -> bytes:
    """Return what passes for the key's signature over a message."""
    return hashlib.shake_128(public_key + message).digest(SIGNATURE_SIZE)


def verify_toy(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether that is the key's signature over a message."""
    return signature == toy_signature(public_key, message)


@contextmanager
def toy_signatures() -> Iterator[None]:
    """Let the rules take toy signatures for real ones, and no others."""
    with patch.object(transfers, "verify_signature", verify_toy):
        yield
