"""The bounds of the pool's settings."""

from __future__ import annotations

import os

import pytest

from unchained.miner.settings import raised_nice


@pytest.mark.parametrize(("wanted", "own", "raised"), [(10, 0, 10), (10, 11, 11), (0, 19, 19)])
def test_a_nice_level_is_raised_to_the_process_own(
    wanted: int, own: int, raised: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpriority", lambda *_: own)
    assert raised_nice(wanted) == raised
