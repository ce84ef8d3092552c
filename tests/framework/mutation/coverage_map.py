"""Which tests run which lines: found once for each test file, kept by content."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, Final

from tests.framework.mutation.mutants import Mutant
from tests.framework.mutation.process import Ended, TestProcess
from tests.framework.mutation.tree_copy import copy_tree

TESTS: Final = ("tests/unit", "tests/property", "tests/simulation", "tests/regressions")
NO_TESTS: Final = ("tests/unit/project/", "tests/unit/framework/test_mutation")
"""What tests no product code, this tool among it."""
DATA: Final = ("tests/vectors", "pyproject.toml")
"""What many tests read besides code."""
FILE_S_MAX: Final = 1800.0
"""How long the watched run of a test file may say nothing."""
DERIVED_MAX: Final = 3
"""Through how many assignments a constant is followed."""


class Unmapped(Exception):
    """A test file could not be collected."""


@dataclass(frozen=True, slots=True)
class TestFileMap:
    """What is known of one test file: the lines that its import runs, and each test."""

    __test__ = False

    imported: Mapping[str, Sequence[int]]
    lines: Mapping[str, Mapping[str, Sequence[int]]]
    seconds: Mapping[str, float]
    failing: Sequence[str]


def find_tests(root: Path, under: Iterable[str]) -> list[str]:
    """Return the test files of some folders, or files named as such, relative to the root."""
    found: list[str] = []
    for each in under:
        path = root / each
        files = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
        found += [str(file.relative_to(root)) for file in files]
    return [file for file in found if not file.startswith(NO_TESTS)]


class MapMaker:
    """Makes the maps of test files, or finds them in `cache_dir` if nothing that they import has
    changed."""

    def __init__(self, root: Path, watched: Sequence[str], cache_dir: Path) -> None:
        self._root = root
        self._watched = watched
        self._cache = cache_dir
        self._running: set[TestProcess] = set()
        self._data = self._digest(
            file for name in DATA for file in self._files_under(root / name)
        ) + repr((sys.version_info[:3], sorted(watched)))

    def make(
        self, files: Sequence[str], scratch: Path, workers: int, say: Callable[[str], None]
    ) -> dict[str, TestFileMap]:
        """Return the map of each test file that imports anything watched."""
        maps: dict[str, TestFileMap] = {}
        missing: list[tuple[str, str]] = []
        for file in files:
            closure = self.closure(file)
            if closure.isdisjoint(self._watched):
                continue
            key = self._key(closure)
            kept = self._read(file, key)
            if kept is None:
                missing.append((file, key))
            else:
                maps[file] = kept
        if not missing:
            return maps
        say(f"watching {len(missing)} test files, {len(maps)} known")
        trees = [copy_tree(self._root, scratch / f"map{at}") for at in range(workers)]
        done = 0

        def one(work: tuple[str, str]) -> None:
            nonlocal done
            tree = trees.pop()
            try:
                maps[work[0]] = self._watch(tree, *work)
            finally:
                trees.append(tree)
            done += 1
            say(f"[{done}/{len(missing)}] {work[0]}: {len(maps[work[0]].seconds)} tests")

        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(one, work) for work in missing]
            try:
                for future in futures:
                    future.result()
            except BaseException:  # one that fails, or an interrupt: the others are in vain
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._running):
                    process.kill()
                raise
        return maps

    def closure(self, file: str) -> frozenset[str]:
        """Return the files of the project that a file imports, itself, and what those import."""
        found = {file}
        waiting = [file]
        if (self._root / "tests/conftest.py").exists():
            waiting.append("tests/conftest.py")
        while waiting:
            for each in _imports(self._root, waiting.pop()):
                if each not in found:
                    found.add(each)
                    waiting.append(each)
        return frozenset(found)

    def _watch(self, tree: Path, file: str, key: str) -> TestFileMap:
        imported: dict[str, list[int]] = {}
        lines: dict[str, Any] = {}
        seconds: dict[str, float] = {}
        failing: list[str] = []
        process = TestProcess(tree, "map", [file], watched=self._watched)
        self._running.add(process)
        try:
            while True:
                match process.answer(FILE_S_MAX):
                    case {"event": "imported", "lines": found}:
                        imported = found
                    case {"event": "ran", "test": test, "lines": found}:
                        lines[test] = found
                    case {"event": "timed", "test": test, "seconds": taken, "passed": passed}:
                        seconds[test] = taken
                        if not passed:
                            failing.append(test)
                    case {"event": "mapped"}:
                        break
                    case other:
                        raise Unmapped(f"{file}: {other}\n{process.output}")
        except Ended:
            raise Unmapped(f"{file}: {process.output}") from None
        finally:
            self._running.discard(process)
            process.close()
        # A test that a watch makes fail, or that forks, counts as far as it came.
        made = {"imported": imported, "lines": lines, "seconds": seconds, "failing": failing}
        self._cache.mkdir(parents=True, exist_ok=True)
        self._path(file).write_text(json.dumps({"key": key, **made}))
        return TestFileMap(imported, lines, seconds, failing)

    def _read(self, file: str, key: str) -> TestFileMap | None:
        if not self._path(file).exists():
            return None
        kept = json.loads(self._path(file).read_text())
        if kept.pop("key") != key:
            return None
        return TestFileMap(**kept)

    def _path(self, file: str) -> Path:
        return self._cache / (file.replace("/", ".") + ".json")

    def _key(self, closure: Iterable[str]) -> str:
        text = self._data + self._digest(self._root / file for file in closure)
        return hashlib.sha256(text.encode()).hexdigest()

    @staticmethod
    def _files_under(path: Path) -> Iterator[Path]:
        yield from (path.rglob("*.json") if path.is_dir() else [path])

    @staticmethod
    def _digest(files: Iterable[Path]) -> str:
        found = hashlib.sha256()
        for file in sorted(files):
            if file.exists():
                found.update(_digest_of(file).encode())
        return found.hexdigest()


class CoverageMap:
    """The maps of all test files, asked by mutant."""

    def __init__(self, root: Path, maps: Mapping[str, TestFileMap], watched: Sequence[str]) -> None:
        self.seconds: dict[str, float] = {}
        self.file_of: dict[str, str] = {}
        self.failing: list[str] = []
        self._root = root
        self._maps = maps
        self._by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._by_file: dict[str, set[str]] = defaultdict(set)
        self._imported: set[tuple[str, int]] = set()
        self._mentions: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._derived: dict[str, set[str]] = defaultdict(set)
        for test_file, known in maps.items():
            self.failing += known.failing
            for test, taken in known.seconds.items():
                if test in known.failing:
                    continue
                self.seconds[test] = taken
                self.file_of[test] = test_file
                for file, lines in known.lines.get(test, {}).items():
                    self._by_file[file].add(test)
                    for line in lines:
                        self._by_line[file, line].add(test)
            self._imported |= {(f, line) for f, lines in known.imported.items() for line in lines}
        for file in watched:
            self._read_mentions(file)

    def is_imported(self, mutant: Mutant) -> bool:
        """Return whether the mutant's lines run when a test file is imported."""
        return mutant.at_import or not self._imported.isdisjoint(self._lines(mutant))

    def tests_for(self, mutant: Mutant) -> set[str]:
        """Return the tests that can notice a mutant.

        Those that run its line; for a line that runs at import, also those that run a line which
        names what the mutant stands in, and those of test files that name it.
        """
        found: set[str] = set()
        for line in self._lines(mutant):
            found |= self._by_line.get(line, set())
        if self.is_imported(mutant):
            for name in self._all_names(mutant.names or {mutant.scope.rpartition(".")[2]}):
                for mention in self._mentions[name]:
                    found |= self._by_line.get(mention, set())
                found |= self._tests_naming(name, mutant.file)
            found = found or self._by_file[mutant.file]
        return found

    def _lines(self, mutant: Mutant) -> list[tuple[str, int]]:
        known = _traceable(self._root / mutant.file)
        first, last = mutant.lines
        lines = [line for line in range(first, last + 1) if line in known]
        if not lines:
            first, last = mutant.statement
            lines = list(range(first, last + 1))
        return [(mutant.file, line) for line in lines]

    def _all_names(self, names: Iterable[str]) -> set[str]:
        found = set(names)
        for _ in range(DERIVED_MAX):
            found |= {other for name in found for other in self._derived[name]}
        return found

    def _tests_naming(self, name: str, file: str) -> set[str]:
        word = re.compile(rf"\b{re.escape(name)}\b")
        found: set[str] = set()
        for test_file, known in self._maps.items():
            if file in known.imported and word.search(_text(self._root / test_file)):
                found.update(test for test in known.seconds if test in self.seconds)
        return found

    def _read_mentions(self, file: str) -> None:
        tree = ast.parse(_text(self._root / file))
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    self._mentions[name].add((file, node.lineno))
        for statement in tree.body:
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(id=target)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value)
                ):
                    for node in ast.walk(value):
                        if isinstance(node, ast.Name) and node.id.isupper():
                            self._derived[node.id].add(target)


@cache
def _text(path: Path) -> str:
    return path.read_text()


@cache
def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _traceable(path: Path) -> frozenset[int]:
    """Return the lines of a file that begin anything which runs."""
    waiting = [compile(_text(path), str(path), "exec", dont_inherit=True)]
    found: set[int] = set()
    while waiting:
        code = waiting.pop()
        found |= {line for _, _, line in code.co_lines() if line}
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
    return frozenset(found)


@cache
def _imports(root: Path, file: str) -> frozenset[str]:
    """Return the files of the project that one file imports by name, wherever in its text."""
    found: set[str] = set()

    def module(name: str) -> None:
        parts = name.removeprefix("unchained.").split(".")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            for each in (f"{path}.py", f"{path}/__init__.py"):
                if (root / each).is_file():
                    found.add(each)

    for node in ast.walk(ast.parse((root / file).read_text())):
        if isinstance(node, ast.Import):
            for each in node.names:
                module(each.name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                module(f"{node.module}.{each.name}")
    return frozenset(found)
