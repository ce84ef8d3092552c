"""Copies of the project for mutants to be written into: the working tree is never touched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

PRODUCT: Final = ("node", "miner", "storage")
COPIED: Final = (*PRODUCT, "tests", "scripts", "docs", "pyproject.toml", "CHANGELOG.md")
LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", ".hypothesis", ".scratch")


def copy_tree(root: Path, into: Path) -> Path:
    """Copy what tests need of a project, with `unchained` as a package path in it; return `into`.

    Put first on Python's path, the copy is what `import unchained.node` finds: the folders stand
    within `unchained`, and links to them where the project has them.
    """
    package = into / "unchained"
    package.mkdir(parents=True)
    for name in COPIED:
        source = root / name
        if name in PRODUCT and source.is_dir():
            shutil.copytree(source, package / name, ignore=LEFT_OUT)
            os.symlink(package / name, into / name)
        elif source.is_dir():
            shutil.copytree(source, into / name, ignore=LEFT_OUT)
        elif source.exists():
            shutil.copy2(source, into / name)
    return into


class MutantFile:
    """A file of a copy with a mutant's text, while the context lasts."""

    def __init__(self, tree: Path, file: str, text: str, *, moment: int) -> None:
        self._path = tree / "unchained" / file
        self._text = text
        self._moment = moment

    def __enter__(self) -> None:
        self._before = self._path.read_bytes()
        self._stat = self._path.stat()
        self._path.write_text(self._text)
        # Compiled files are told from stale ones by size and whole seconds: no two of a run agree.
        os.utime(self._path, (self._moment, self._moment))

    def __exit__(self, *_: object) -> None:
        self._path.write_bytes(self._before)
        os.utime(self._path, ns=(self._stat.st_atime_ns, self._stat.st_mtime_ns))
