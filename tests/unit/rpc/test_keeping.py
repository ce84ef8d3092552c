"""Paths that callers name: absolute, and such as a file can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from unchained.node.base.runner import InlineRunner
from unchained.node.rpc.core.errors import InvalidParamsError, RefusedError
from unchained.node.rpc.methods.db import DbRoom
from unchained.node.rpc.methods.keeping import absolute_path
from unchained.storage.memory import MemoryStore


@pytest.mark.parametrize("path", ["", "a", "./a", "../a", "~/a", "/a\x00b", "/a\ud800", "C:\\a"])
def test_paths_that_are_refused(path: str) -> None:
    with pytest.raises(InvalidParamsError, match="path"):
        absolute_path(path)


def test_a_path() -> None:
    assert absolute_path("/a/b c") == Path("/a/b c")


@pytest.mark.parametrize("path", ["/proc/none/x", f"/{'a' * 300}", "/"])
async def test_a_store_that_cannot_be_copied_there(path: str) -> None:
    with pytest.raises(RefusedError):
        await DbRoom(MemoryStore(), InlineRunner()).backup(path)
