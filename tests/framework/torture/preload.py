"""Loads all of the program's modules, once for all nodes that `forked` starts."""

from __future__ import annotations

import pkgutil
from importlib import import_module

for room in ("unchained.miner", "unchained.storage", "unchained.node"):
    for module in pkgutil.walk_packages(import_module(room).__path__, f"{room}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
