"""The proof of work: Argon2id v0x13 with one lane, behind interchangeable backends (Protocol §3.2).

`cryptography`'s Argon2id is the truth. The native kernel, where one was built, is proven equal to
it and takes its place. Importing this module loads neither, for the sake of small mining workers.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from unchained.node.primitives.hashing import SALT

if TYPE_CHECKING:
    from unchained.node.crypto._argon2 import Kernel

__all__ = [
    "MAX_ITERATIONS",
    "MAX_LENGTH",
    "MAX_MEM_KIB",
    "MIN_LENGTH",
    "MIN_MEM_KIB",
    "MIN_SALT",
    "POW_BACKEND_VARIABLE",
    "ArenaStatistics",
    "NativeArgon2id",
    "ProofOfWork",
    "available_backends",
    "compute_mix",
    "default_backend",
    "reference_backend",
]

POW_BACKEND_VARIABLE = "UNCHAINED_POW_BACKEND"
"""The environment variable that forces a backend."""

MIN_MEM_KIB = 8
"""Least memory of Argon2 with one lane, KiB (RFC 9106 §3.1)."""

MAX_MEM_KIB = 16 * 1024 * 1024
"""Most memory that a backend takes, KiB: 16 GiB."""

MAX_ITERATIONS = 2**32 - 1
"""Most passes over the memory (RFC 9106 §3.1)."""

MIN_SALT = 8
"""Least length of a salt, bytes."""

MIN_LENGTH = 4
"""Least length of a tag, bytes (RFC 9106 §3.1)."""

MAX_LENGTH = 1024 * 1024
"""Most length of a password, a salt or a tag, bytes."""

_REFERENCE = "cryptography"
_NATIVE = "native"


class ProofOfWork(Protocol):
    """Argon2id v0x13 with one lane; any number of threads may call it at once (RFC 9106)."""

    @property
    def name(self) -> str:
        """What `UNCHAINED_POW_BACKEND` calls it."""

    def argon2id(
        self, password: bytes, salt: bytes, *, iterations: int, mem_kib: int, length: int
    ) -> bytes:
        """Return the tag of `length` bytes; the GIL is released while it is computed.

        Raises ValueError naming a parameter out of range, MemoryError where `mem_kib` cannot be
        had.
        """


def _check(password: bytes, salt: bytes, iterations: int, mem_kib: int, length: int) -> None:
    for what, value, low, high in (
        ("password length", len(password), 0, MAX_LENGTH),
        ("salt length", len(salt), MIN_SALT, MAX_LENGTH),
        ("iterations", iterations, 1, MAX_ITERATIONS),
        ("mem_kib", mem_kib, MIN_MEM_KIB, MAX_MEM_KIB),
        ("length", length, MIN_LENGTH, MAX_LENGTH),
    ):
        if not low <= value <= high:
            raise ValueError(f"argon2id {what} is {value}, expected {low} to {high}")


class ReferenceArgon2id:
    """`cryptography`'s Argon2id, imported with the first hash; it allocates anew for each."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """What `UNCHAINED_POW_BACKEND` calls it."""
        return _REFERENCE

    def argon2id(
        self, password: bytes, salt: bytes, *, iterations: int, mem_kib: int, length: int
    ) -> bytes:
        """Return the tag, as `ProofOfWork.argon2id` does."""
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        _check(password, salt, iterations, mem_kib, length)
        derivation = Argon2id(
            salt=salt, length=length, iterations=iterations, lanes=1, memory_cost=mem_kib
        )
        return derivation.derive(password)


@dataclass(frozen=True, slots=True)
class ArenaStatistics:
    """The memory that a native backend keeps between hashes, in bytes."""

    arenas: int
    mapped: int
    huge: int
    """Of the mapped, what lies in huge pages; 0 where the system does not tell."""


class NativeArgon2id:
    """The native kernel in one of its variants, with an arena for each hash that runs at once.

    Arenas are kept between hashes and asked for in huge pages. They are freed by `close`, or with
    the backend itself.
    """

    __slots__ = ("_kernel", "_name")

    def __init__(self, kernel: "Kernel", name: str) -> None:
        self._kernel = kernel
        self._name = name

    @property
    def name(self) -> str:
        """What `UNCHAINED_POW_BACKEND` calls it."""
        return self._name

    def argon2id(
        self, password: bytes, salt: bytes, *, iterations: int, mem_kib: int, length: int
    ) -> bytes:
        """Return the tag, as `ProofOfWork.argon2id` does."""
        _check(password, salt, iterations, mem_kib, length)
        return self._kernel.argon2id(password, salt, iterations, mem_kib, length)

    def close(self) -> None:
        """Free the arenas, those in use when their hash ends; a later hash maps one again."""
        self._kernel.close()

    def statistics(self) -> ArenaStatistics:
        """Describe the idle arenas; reads /proc, so it is for a cockpit, not for each hash."""
        arenas = self._kernel.arenas()
        return ArenaStatistics(
            arenas=len(arenas),
            mapped=sum(size for _, size in arenas),
            huge=_huge_bytes(arenas),
        )


def _huge_bytes(arenas: list[tuple[int, int]]) -> int:
    """Sum what the mappings that overlap the arenas hold in huge pages, bytes."""
    try:
        text = Path("/proc/self/smaps").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return sum(
        huge
        for start, end, huge in _huge_mappings(text)
        if any(start < address + size and address < end for address, size in arenas)
    )


def _huge_mappings(smaps: str) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and bytes in huge pages of each mapping (proc_pid_smaps(5))."""
    start = end = 0
    for line in smaps.splitlines():
        first, *rest = line.split(maxsplit=2)
        if first == "AnonHugePages:":
            yield start, end, int(rest[0]) * 1024
        elif not first.endswith(":"):
            start, end = (int(address, 16) for address in first.split("-"))


def _extension() -> ModuleType | None:
    """Import the native kernel; None where it was not built."""
    try:
        from unchained.node.crypto import _argon2
    except ImportError:
        return None
    return _argon2


def _native_variants() -> tuple[str, ...]:
    extension = _extension()
    return () if extension is None else tuple(extension.variants())


def reference_backend() -> ProofOfWork:
    """Return `cryptography`'s Argon2id, the truth that every other backend is proven against."""
    return ReferenceArgon2id()


def available_backends() -> tuple[str, ...]:
    """Return the names that `UNCHAINED_POW_BACKEND` takes on this machine, fastest first.

    Besides these it takes "native", for the first whose name begins so.
    """
    return (*(f"{_NATIVE}-{variant}" for variant in _native_variants()), _REFERENCE)


def default_backend(environ: Mapping[str, str] = os.environ) -> ProofOfWork:
    """Return the fastest backend of this machine, or the one that the environment forces.

    Raises ValueError for a forced backend that is unknown or cannot run here.
    """
    available = available_backends()
    forced = environ.get(POW_BACKEND_VARIABLE)
    name = forced or available[0]
    if name == _NATIVE and len(available) > 1:
        name = available[0]
    if name not in available:
        raise ValueError(
            f"{POW_BACKEND_VARIABLE} is {forced!r}, expected one of {', '.join(available)}"
        )
    extension = _extension()
    if name == _REFERENCE or extension is None:
        return reference_backend()
    return NativeArgon2id(extension.Kernel(name.removeprefix(f"{_NATIVE}-")), name)


def compute_mix(backend: ProofOfWork, header: bytes, mem_kib: int) -> bytes:
    """Return the 32-byte mix of a header of 166 bytes, with a network's MEM in KiB."""
    # Protocol §3.2
    return backend.argon2id(header, SALT(header)[:16], iterations=1, mem_kib=mem_kib, length=32)
