"""scripts/survey: what it counts, in a small tree that has one of each."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "survey"

ONE = """
from collections.abc import Callable

Check = Callable[[int], bool] | None
ROOM = 1
SAME = 2
_OWN = 1

class Box:
    inner: list["Callable[[], None]"]

    def __init__(self, check: Check, count: int, *, made: dict[str, Callable[[], int]]) -> None:
        self._check: Check = check
        self._later: Check = None

class _Hidden: ...
"""
TWO = """
from typing import Final
from unchained.node.one import Check, ROOM as OTHER

ROOM: Final = 3
SAME = 2
_OWN = 2

class Box:
    seen: tuple[int, Check]

class _Hidden: ...

def free(check: Check) -> None: ...
"""


@pytest.fixture(scope="module")
def survey() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("survey_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("survey_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {
        "node/__init__.py": "",
        "node/app.py": "",
        "node/one.py": ONE,
        "node/room/holding.py": TWO,
        "miner/long.py": "x = 1\n" * 501,
        "miner/boxes.py": "class Boxed: ...\nBoxes = 500\n",
        "storage/fine.py": "class Fine: ...\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_counts(survey: ModuleType, tree: Path) -> None:
    found = survey.survey(tree)
    assert found["owners"] == ["Box: node/one.py:9, node/room/holding.py:9"]
    assert found["constants"] == ["ROOM: 1 in node/one.py:5; 3 in node/room/holding.py:5"]
    assert found["callables"] == ["node/one.py:10 Box.inner", "node/one.py:12 Box.made"]
    assert [one.split()[-1] for one in found["callables-all"]] == [
        "Box.inner",
        "Box.check",
        "Box.made",
        "Box.later",
        "Box.seen",
    ]
    assert found["lines"] == ["miner/long.py: 501 lines"]
    assert found["loose"] == ["node/one.py"]
    assert found["gerunds"] == ["node/room/holding.py: Box"]
    assert found["stems"] == ["node/one.py: Box", "node/room/holding.py: Box"]


@pytest.mark.parametrize(("limit", "code"), [("-1", 1), ("100000", 0)])
def test_is_above_its_limit_or_not(survey: ModuleType, limit: str, code: int) -> None:
    limits = [f"--{name}={limit}" for name in survey.LIMITS]
    done = subprocess.run(
        [sys.executable, SCRIPT, *limits], check=False, capture_output=True, text=True
    )
    assert done.returncode == code
    assert done.stdout.count("too many") == code * len(survey.LIMITS)
