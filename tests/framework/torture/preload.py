"""Loads all of the program's modules, once for all nodes that `forked` starts."""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module

# Ctrl-C at a terminal is for the command, which ends this process; it would be told of here.
os.setsid()

for room in ("unchained.miner", "unchained.storage", "unchained.node"):
    for module in pkgutil.walk_packages(import_module(room).__path__, f"{room}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
