"""docs/glossary.md names what exists, and each word once, in order."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROWS = re.findall(
    r"^\| (?!word )([^|-][^|]*) \| .* \| ([^|]+) \|$",
    (ROOT / "docs/glossary.md").read_text(),
    re.MULTILINE,
)


def defined(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Yield what a module defines at its top, and `Class.member` for what its classes hold."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef) and not prefix:
            yield from defined(node.body, f"{node.name}.")
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


@functools.cache
def names_of(room: str) -> set[str]:
    paths = (ROOT / room).rglob("*.py")
    return {name for path in paths for name in defined(ast.parse(path.read_text()).body)}


def test_words_are_in_order() -> None:
    words = [word for word, _ in ROWS]
    assert len(words) > 40
    assert words == sorted(words, key=str.lower)


@pytest.mark.parametrize(("word", "places"), ROWS, ids=[word for word, _ in ROWS])
def test_every_name_exists(word: str, places: str) -> None:
    named = re.findall(r"`([a-z/]+)` `([\w.]+)`", places)
    assert ", ".join(f"`{room}` `{name}`" for room, name in named) == places
    for room, name in named:
        assert name in names_of(room), f"{name} is not defined in {room}"
