"""Files, folders, and members of classes that the documentation names exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PATH = re.compile(
    r"(?<![\w./<>-])(?:node|miner|storage|tests|scripts|docs|\.ci)(?:/[\w.*-]*[\w*])+"
)
"""A path from the root of the project, of a file, a folder, or several by a pattern."""
MEMBER = re.compile(r"`([A-Z]\w*[a-z]\w*)\.(\w+)`")
"""A member of a class, as `Class.member`."""
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def named_in(text: str) -> set[str]:
    """Return the paths that a text names, but for parts of an address or of a longer path."""
    return set(PATH.findall(text))


@functools.cache
def members() -> dict[str, set[str]]:
    """Return what each class defines: methods, fields, and what its methods set on `self`."""
    found: dict[str, set[str]] = {}
    paths = [path for room in ("node", "miner", "storage") for path in (ROOT / room).rglob("*.py")]
    for path in paths:
        for owner in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(owner, ast.ClassDef):
                continue
            names = found.setdefault(owner.name, set())
            for node in ast.walk(owner):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(node.name)
                elif isinstance(node, ast.Name):
                    names.add(node.id)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [path for path in sorted(named_in(text)) if not any(ROOT.glob(path))] == []
    links = LINK.findall(text)
    assert [link for link in links if not (document.parent / link).exists()] == []
    missing = [
        f"{owner}.{name}"
        for owner, name in MEMBER.findall(text)
        if name not in members().get(owner, ())
    ]
    assert missing == []


def test_paths_are_found_in_prose_tables_and_blocks() -> None:
    text = "`node/app.py`, (docs/wallet.md) `tests/unit/<room>/test_x.py` /a/node/b /node/c `miner`"
    text += " (tests/functional/test_*.py)"
    assert named_in(text) == {
        "node/app.py",
        "docs/wallet.md",
        "tests/unit",
        "tests/functional/test_*.py",
    }
    assert len(named_in((ROOT / "docs/architecture.md").read_text())) > 50
