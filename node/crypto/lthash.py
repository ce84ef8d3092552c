"""The state commitment: LtHash over the coin set (Protocol §4).

Adding and removing a member adds and subtracts its element, so a change of the set costs what
changed and the order of changes does not matter (Bellare, Micciancio 1997; Lewi et al. 2019).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from unchained.node.primitives.hashing import LTHASH, STATE_HASH

LANES: Final = 1_024
"""Lanes of the state vector, 16 bits each."""

VECTOR_SIZE: Final = 2 * LANES
"""Bytes of the state vector, and of one element."""

Member: TypeAlias = tuple[bytes, int, bytes, int, bool]
"""A coin of the set: id, value in grains, lock, height of inclusion, minted."""

# numpy's little-endian type on any host: the vector's bytes are the protocol's
_LANE: Final = np.dtype("<u2")
_MEMBER: Final = struct.Struct(">32sQ32sQ?")
_COUNT: Final = struct.Struct(">Q")

# Elements summed at once: bounds what a batch allocates to 512 KiB
_CHUNK: Final = 256


def element(coin_id: bytes, value: int, lock: bytes, height: int, minted: bool) -> bytes:
    """Return the 2,048 bytes of one member: 1,024 lanes, little-endian u16."""
    return LTHASH.extended(_MEMBER.pack(coin_id, value, lock, height, minted), VECTOR_SIZE)


class StateCommitment:
    """The running sum over the members of a coin set, and their number. Mutable, one owner.

    Whether a coin that is removed was ever added cannot be seen here: the coin set knows.
    """

    __slots__ = ("_count", "_vector")

    def __init__(self) -> None:
        self._vector: npt.NDArray[np.uint16] = np.zeros(LANES, _LANE)
        self._count = 0

    @property
    def count(self) -> int:
        """Members of the set."""
        return self._count

    def add(self, coin_id: bytes, value: int, lock: bytes, height: int, minted: bool) -> None:
        """Add one member."""
        self.apply(((coin_id, value, lock, height, minted),), ())

    def remove(self, coin_id: bytes, value: int, lock: bytes, height: int, minted: bool) -> None:
        """Remove one member. Raises ValueError when the set is empty."""
        self.apply((), ((coin_id, value, lock, height, minted),))

    def apply(self, added: Iterable[Member], removed: Iterable[Member]) -> None:
        """Add and remove members, all of them or, on an error, none.

        Raises ValueError when more would be removed than the set has.
        """
        plus, members_added = _sum(added)
        minus, members_removed = _sum(removed)
        count = self._count + members_added - members_removed
        if count < 0:
            raise ValueError(f"removed {members_removed} members of {self._count + members_added}")
        if plus is not None:
            self._vector += plus
        if minus is not None:
            self._vector -= minus
        self._count = count

    def root(self) -> bytes:
        """Return the state root, 32 bytes."""
        return STATE_HASH(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return vector and count, 2,056 bytes: what the root is the hash of."""
        return self._vector.tobytes() + _COUNT.pack(self._count)

    @classmethod
    def from_bytes(cls, raw: bytes) -> StateCommitment:
        """Read what `to_bytes` gave. Raises ValueError for another length."""
        if len(raw) != VECTOR_SIZE + _COUNT.size:
            raise ValueError(
                f"a state commitment has {VECTOR_SIZE + _COUNT.size} bytes, got {len(raw)}"
            )
        commitment = cls()
        commitment._vector = np.frombuffer(raw, _LANE, LANES).copy()
        (commitment._count,) = _COUNT.unpack_from(raw, VECTOR_SIZE)
        return commitment

    def copy(self) -> StateCommitment:
        """Return an independent commitment to the same set."""
        twin = StateCommitment.__new__(StateCommitment)
        twin._vector = self._vector.copy()
        twin._count = self._count
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StateCommitment):
            return NotImplemented
        return self._count == other._count and bool((self._vector == other._vector).all())

    # mutable
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<StateCommitment of {self._count} coins, root {self.root().hex()}>"


def _sum(members: Iterable[Member]) -> tuple[npt.NDArray[np.uint16] | None, int]:
    """Return the lane-wise sum of the members' elements (None for none) and their number."""
    rest = iter(members)
    total: npt.NDArray[np.uint16] | None = None
    count = 0
    pack, extended = _MEMBER.pack, LTHASH.extended
    while chunk := [extended(pack(*member), VECTOR_SIZE) for member in islice(rest, _CHUNK)]:
        lanes = np.frombuffer(b"".join(chunk), _LANE).reshape(len(chunk), LANES)
        part: npt.NDArray[np.uint16] = np.add.reduce(lanes, axis=0, dtype=_LANE)
        total = part if total is None else total + part
        count += len(chunk)
    return total, count
