"""Every native variant that runs here gives the reference's tags, whatever the parameters.

`UNCHAINED_POW_EXAMPLES` sets how many random cases are tried.
"""

import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from unchained.node.crypto.pow import (
    POW_BACKEND_VARIABLE,
    available_backends,
    default_backend,
    reference_backend,
)

NATIVE = [
    default_backend({POW_BACKEND_VARIABLE: name})
    for name in available_backends()
    if name.startswith("native-")
]
EXAMPLES = int(os.environ.get("UNCHAINED_POW_EXAMPLES", "200"))

pytestmark = pytest.mark.skipif(not NATIVE, reason="the native kernel was not built")

quiet = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def check(password: bytes, salt: bytes, iterations: int, mem_kib: int, length: int) -> None:
    parameters = {"iterations": iterations, "mem_kib": mem_kib, "length": length}
    expected = reference_backend().argon2id(password, salt, **parameters)
    for backend in NATIVE:
        assert backend.argon2id(password, salt, **parameters) == expected, backend.name


@settings(quiet, max_examples=EXAMPLES)
@given(
    password=st.binary(max_size=1024),
    salt=st.binary(min_size=8, max_size=1024),
    iterations=st.integers(1, 4),
    mem_kib=st.one_of(st.integers(8, 64), st.integers(8, 600), st.integers(8, 6000)),
    length=st.integers(4, 1024),
)
@example(password=b"", salt=bytes(8), iterations=1, mem_kib=8, length=4)
@example(password=bytes(1024), salt=bytes(1024), iterations=4, mem_kib=11, length=1024)
@example(password=bytes(88), salt=bytes(128), iterations=1, mem_kib=512, length=64)
@example(password=bytes(89), salt=bytes(127), iterations=2, mem_kib=513, length=65)
@example(password=bytes(87), salt=bytes(129), iterations=3, mem_kib=516, length=96)
def test_small_memory(
    password: bytes, salt: bytes, iterations: int, mem_kib: int, length: int
) -> None:
    check(password, salt, iterations, mem_kib, length)


@settings(quiet, max_examples=max(1, EXAMPLES // 25))
@given(
    password=st.binary(max_size=1024),
    iterations=st.integers(1, 4),
    mem_kib=st.integers(6000, 131072),
)
@example(password=b"largest", iterations=1, mem_kib=131072)
def test_large_memory(password: bytes, iterations: int, mem_kib: int) -> None:
    check(password, b"somesalt", iterations, mem_kib, 32)
