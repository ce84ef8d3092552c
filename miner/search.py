"""The hashing loop: the same for a worker process and for a simulation that mines inline."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from unchained.node.crypto.pow import ProofOfWork, compute_mix
from unchained.node.primitives.hashing import COIN_HASH


class SearchResult(NamedTuple):
    """A coin: header (166 bytes), mix and id (32 bytes each)."""

    header: bytes
    mix: bytes
    coin_id: bytes


def search(
    backend: ProofOfWork,
    header_prefix: bytes,
    target: int,
    mem_kib: int,
    nonces: range,
    stop: Callable[[], bool],
) -> SearchResult | None:
    """Return the first coin among `nonces`, in their order; None if there is none or if stopped.

    `header_prefix` is the header without its nonce (158 bytes). `stop` is asked once after every
    hash that is no coin, and ends the search by returning true; it can count hashes.
    Protocol §3.1, §3.2.
    """
    # An id and the target compare as big-endian integers, hence as bytes of one length.
    limit = target.to_bytes(32, "big")
    for nonce in nonces:
        header = header_prefix + nonce.to_bytes(8, "big")
        mix = compute_mix(backend, header, mem_kib)
        coin_id = COIN_HASH(header + mix)
        if coin_id <= limit:
            return SearchResult(header, mix, coin_id)
        if stop():
            return None
    return None
