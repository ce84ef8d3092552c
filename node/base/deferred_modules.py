"""Spares the process what libraries bring along and nobody here uses.

A package whose ``__init__`` imports more than is used is put in place without running it; what is
imported from it by its own name, such as `libp2p.peer.id`, is found as ever. Who asks it for
something that is no module of its own (``from libp2p import new_host``) makes it run after all, and
gets it. Of modules that others of a library import for a class or two, there is no more than the
names, until one of them is used.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, Final

_RUNNING: Final = threading.RLock()
"""Held while a module is run. One for all, since each may want others; who is run may, by way of
others, come upon itself."""


def defer(packages: Collection[str], classes: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Put packages in place, each after the one that it lies in, and modules of which no more than
    these `classes` is named; unless they are there already. Calling it again changes nothing."""
    parts = classes or {}
    for name in packages:
        if name not in sys.modules:
            _put(name, partial(_DeferredPackage, parts=parts))
    for name, names in parts.items():
        if name not in sys.modules:
            _put(name, partial(_DeferredModule, classes=names))


def _put(name: str, deferred: Callable[[ModuleType, ModuleSpec], _Deferred]) -> None:
    spec = find_spec(name)
    if spec is None:
        return
    module = module_from_spec(spec)
    vars(module)["__getattr__"] = deferred(module, spec)
    sys.modules[name] = module
    above, _, own = name.rpartition(".")
    if above in sys.modules:
        setattr(sys.modules[above], own, module)


class _Deferred:
    """The ``__getattr__`` of a module that has not been run yet."""

    def __init__(self, module: ModuleType, spec: ModuleSpec) -> None:
        self._module = module
        self._spec = spec
        self._is_running = False

    @property
    def has_run(self) -> bool:
        """Whether somebody has wanted what the module makes."""
        return vars(self._module).get("__getattr__") is not self

    def run(self) -> None:
        """Run the module unless it has been; return once that is done. Raises what it raises: then
        it is run again when something of it is wanted again."""
        with _RUNNING:
            if self.has_run or self._is_running:
                return
            assert self._spec.loader is not None, "what was found has one"
            self._is_running = True
            try:
                self._spec.loader.exec_module(self._module)
            except BaseException:
                vars(self._module)["__getattr__"] = self
                raise
            finally:
                self._is_running = False
            # Only now: other threads that want what is still to come wait here for it.
            if not self.has_run:
                del vars(self._module)["__getattr__"]

    def load(self, name: str) -> Any:
        """Return what the module has by a name, once it has run; raises AttributeError for what it
        has not."""
        if not name.startswith("__"):
            self.run()
        try:
            return vars(self._module)[name]
        except KeyError:
            where = self._module.__name__
            raise AttributeError(f"module {where!r} has no attribute {name!r}") from None


class _DeferredPackage(_Deferred):
    def __init__(self, module: ModuleType, spec: ModuleSpec, parts: Collection[str]) -> None:
        super().__init__(module, spec)
        self._parts = parts

    def __call__(self, name: str) -> object:
        if find_spec(f"{self._module.__name__}.{name}") is not None:
            # A module is imported by who looked for it, once it is not found here.
            raise AttributeError(name)
        if not name.startswith("__"):
            # From here on all is to be as it is for those who use all of it.
            for each in self._parts:
                deferred = vars(sys.modules[each]).get("__getattr__")
                if isinstance(deferred, _DeferredModule):
                    deferred.run()
        return self.load(name)


class _DeferredModule(_Deferred):
    def __init__(self, module: ModuleType, spec: ModuleSpec, classes: tuple[str, ...]) -> None:
        super().__init__(module, spec)
        self._classes = {name: _DeferredClass(self, name) for name in classes}

    def __call__(self, name: str) -> object:
        return self._classes[name] if name in self._classes else self.load(name)


class _DeferredClass:
    """A class of a module that has not been run yet: it is run when the class is used."""

    def __init__(self, module: _DeferredModule, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self, *arguments: object) -> object:
        return self._module.load(self._name)(*arguments)

    def __getattr__(self, name: str) -> Callable[..., object]:
        """Return a method of the class, to be called."""

        def method(*arguments: object) -> object:
            return getattr(self._module.load(self._name), name)(*arguments)

        return method

    def __instancecheck__(self, instance: object) -> bool:
        return self._module.has_run and isinstance(instance, self._module.load(self._name))
