"""What the C library gives back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from unchained.node.base.heap import LEFT_ALONE, SharedHeap


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc, or an old one")
def test_what_is_free_in_the_middle_of_the_heap_is_given_back() -> None:
    lines = (
        "import psutil",
        "from unchained.node.base.heap import SharedHeap, share_one_heap",
        "share_one_heap()",
        "kept = [bytes(1000) for _ in range(40_000)]",
        "del kept[:-1]",
        "before = psutil.Process().memory_info().rss",
        "SharedHeap().give_back()",
        "print(before - psutil.Process().memory_info().rss > 20_000_000)",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "True"


def test_a_heap_that_is_left_alone_and_a_library_that_is_not_glibc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    LEFT_ALONE.give_back()
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    SharedHeap().give_back()
