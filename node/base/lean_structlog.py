"""Spares the process Rich, which structlog imports, if it is there, to show what failed.

A node that writes its log as lines of JSON draws nothing: 4 MB that it does without. Whoever does
draw imports Rich by itself. structlog's renderer for developers, which nobody here uses, shows
exceptions in Python's own way then.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Final, cast

USER: Final = "structlog.dev"
SPARED: Final = "rich"


def spare_rich() -> None:
    """Have structlog run as where there is no Rich, whenever it is imported first; nothing of it is
    imported now."""
    if USER not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds one module."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if name != USER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module that finds no Rich meanwhile, unless somebody has it already; then its finder
    has done what it was for."""

    def __init__(self, name: str, path: str, finder: _Finder) -> None:
        super().__init__(name, path)
        self._finder = finder

    def exec_module(self, module: ModuleType) -> None:
        # Here and not where it was found: who looks whether there is such a module runs none.
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        if SPARED in sys.modules:
            super().exec_module(module)
            return
        # To Python, None says that there is no such module.
        cast(dict[str, ModuleType | None], sys.modules)[SPARED] = None
        try:
            super().exec_module(module)
        finally:
            del sys.modules[SPARED]
