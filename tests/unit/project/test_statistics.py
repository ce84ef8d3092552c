"""Every part of a node counts into one frozen value, and what shows it reads that value alone."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import msgspec
import pytest

ROOT: Final = Path(__file__).parents[3]
PLAIN: Final = (int, float, str, bytes, bool, type(None))
RENDERERS: Final = (
    "node/observe/chain_metrics.py",
    "node/observe/metric.py",
    "node/observe/metric_table.py",
    "node/observe/metrics_page.py",
    "node/observe/network_metrics.py",
    "node/observe/series_table.py",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "node/rpc/web").glob("*.py"))),
)
"""What makes metrics, and pages for browsers."""
SERVICES: Final = (
    "app",
    "chain.core",
    "chain.service",
    "mining",
    "peers.manager",
    "relay",
    "sync",
    "transport",
    "wallet.manager",
)
"""Where the parts are that count, in `unchained.node`."""


def counting() -> Iterator[tuple[str, str]]:
    """Yield module and class of each `statistics()` of the product; but those of Protocols, and
    methods of RPC."""
    for room in ("node", "miner", "storage"):
        for path in sorted((ROOT / room).rglob("*.py")):
            module = ".".join(("unchained", *path.relative_to(ROOT).with_suffix("").parts))
            for found in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(found, ast.ClassDef) and not any(
                    ast.unparse(base).startswith("Protocol") for base in found.bases
                ):
                    for member in found.body:
                        if (
                            isinstance(member, ast.FunctionDef)
                            and member.name == "statistics"
                            and not member.decorator_list
                        ):
                            yield module, found.name


COUNTING: Final = tuple(counting())


def kind_of(module: str, name: str) -> Any:
    """Return what the `statistics()` of a class gives."""
    method = getattr(importlib.import_module(module), name).statistics
    return typing.get_type_hints(method, known(method.__module__))["return"]


def known(module: str) -> dict[str, Any]:
    """Return what a module knows by name, with the snapshots that it imports for types alone."""
    from unchained.node.sync.node_network import NetworkStatistics

    return {"NetworkStatistics": NetworkStatistics, **vars(sys.modules[module])}


def mutable(kind: Any, seen: set[Any]) -> Iterator[str]:
    """Yield what of a snapshot's kind somebody could change."""
    if kind in seen or kind in PLAIN or get_origin(kind) is typing.Literal:
        return
    seen.add(kind)
    if isinstance(kind, typing.NewType):
        yield from mutable(kind.__supertype__, seen)
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not kind.__struct_config__.frozen:
            yield kind.__name__
        for name, hint in typing.get_type_hints(kind, known(kind.__module__)).items():
            if name in kind.__struct_fields__:
                yield from (f"{kind.__name__}.{name}: {one}" for one in mutable(hint, seen))
    elif dataclasses.is_dataclass(kind):
        if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            yield str(kind)
        for name, hint in typing.get_type_hints(kind, known(kind.__module__)).items():
            yield from (f"{kind}.{name}: {one}" for one in mutable(hint, seen))
    elif get_origin(kind) in (tuple, frozenset, Mapping, typing.Union, types.UnionType):
        for argument in get_args(kind):
            if argument is not ...:
                yield from mutable(argument, seen)
    elif not (isinstance(kind, type) and issubclass(kind, tuple)):
        yield str(kind)


def test_there_are_as_many_as_a_node_has_parts() -> None:
    assert len(COUNTING) >= 30


@pytest.mark.parametrize(("module", "name"), COUNTING)
def test_every_snapshot_is_frozen_through_and_through(module: str, name: str) -> None:
    kind = kind_of(module, name)
    # The proof of work imports as little as it can, for the sake of small mining workers.
    is_value = issubclass(kind, msgspec.Struct) or module == "unchained.node.crypto.pow"
    assert is_value, f"{kind} is no frozen struct"
    assert list(mutable(kind, set())) == []


@pytest.mark.parametrize("path", RENDERERS)
def test_what_shows_the_counters_knows_none_of_the_parts_that_count(path: str) -> None:
    """Metrics are made of `NodeStatistics`, pages of the results of methods."""
    parts = tuple(f"unchained.node.{name}" for name in SERVICES)
    imported = [
        node.module or ""
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
    ]
    assert [name for name in imported if name.startswith(parts)] == []
