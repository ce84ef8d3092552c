"""Spares the process what libp2p brings along and nobody here uses.

libp2p's packages import all of it: QUIC, WebSocket, mDNS, a DHT, AutoTLS with an HTTP client. That
is 27 MB and 600 modules of which a node runs none. Here the packages are put in place without
running their ``__init__``; what is imported from them by its own name, such as
`libp2p.peer.id`, is found as ever. Who asks a package for something that is no module of its own
(``from libp2p import new_host``) makes it run after all, and gets it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Final

PACKAGES: Final = (
    "libp2p",
    "libp2p.identity",
    "libp2p.identity.identify",
    "libp2p.network",
    "libp2p.security",
    "libp2p.transport",
    "libp2p.transport.quic",
)
"""Packages whose ``__init__`` imports what is not used, each after the one that it lies in."""


def defer_packages() -> None:
    """Put the packages in place unless they are there already; calling it again changes nothing."""
    for name in PACKAGES:
        if name not in sys.modules:
            _defer(name)


def _defer(name: str) -> None:
    spec = find_spec(name)
    if spec is None:
        return
    package = module_from_spec(spec)
    vars(package)["__getattr__"] = _Deferred(package, spec)
    sys.modules[name] = package
    above, _, own = name.rpartition(".")
    if above:
        setattr(sys.modules[above], own, package)


class _Deferred:
    """A package's ``__getattr__`` until somebody wants what its ``__init__`` makes."""

    def __init__(self, package: ModuleType, spec: ModuleSpec) -> None:
        self._package = package
        self._spec = spec

    def __call__(self, name: str) -> object:
        """Return what is not there yet; raises AttributeError for what never will be."""
        package = self._package
        is_own = name.startswith("__") or find_spec(f"{package.__name__}.{name}") is not None
        if is_own or vars(package).pop("__getattr__", None) is None:
            # A module is imported by who looked for it, once it is not found here.
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        assert self._spec.loader is not None, "a package that was found has one"
        self._spec.loader.exec_module(package)
        return getattr(package, name)
