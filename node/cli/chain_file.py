"""Chain files without a running node: written from a store, taken into one, or only verified."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog
import trio

from unchained.node.base.clock import SystemClock
from unchained.node.base.runner import ThreadRunner
from unchained.node.base.services import heeded_signals
from unchained.node.base.settings import prepare_data_dir
from unchained.node.chain.export import MAGIC, ImportFailedError, export_chain, read_head
from unchained.node.chain.importer import ImportProgress, import_chain
from unchained.node.chain.results import UnknownAnchorError
from unchained.node.chain.service import ChainService
from unchained.node.cli.asker import CommandFailedError
from unchained.node.cli.progress import Show, progress
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import NETWORKS, Network
from unchained.node.crypto.pow import default_backend
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.core.values import Amount
from unchained.storage import schema
from unchained.storage.kv import KeyValueStore
from unchained.storage.memory import MemoryStore
from unchained.storage.open import open_store, prepare

_ANCHOR_ID: Final = re.compile("[0-9a-fA-F]{64}")


class Exported(msgspec.Struct, frozen=True):
    """A chain file that was written."""

    path: str
    bytes: int
    height: int
    tip: str


class PutAside(msgspec.Struct, frozen=True):
    """An anchor that is set aside, or is no more, and the main chain after that."""

    id: str
    set_aside: bool
    changed: bool
    tip: str
    height: int


class FileResult(msgspec.Struct, frozen=True):
    """A chain file that was read to its end: the anchors in it, and the chain after it."""

    network: str
    anchors: int
    height: int
    tip: str
    supply: Amount
    pool: Amount

    def to_builtins(self) -> dict[str, object]:
        """Return the members as JSON has them."""
        made = {name: getattr(self, name) for name in self.__struct_fields__}
        return made | {"supply": self.supply.unc(), "pool": self.pool.unc()}


def export_store(data_dir: Path, network_name: str, path: Path) -> Exported:
    """Write the main chain of a store into a file, whole or not at all.

    Raises a `StoreError`, `CommandFailedError`.
    """
    store = open_store(data_dir, NETWORKS[network_name], create=False)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        _remove_unfinished(path)
        with (
            store.snapshot() as snapshot,
            unfinished.open("xb") as file,
            progress("writing") as show,
        ):
            height = 0
            for height, tip_height in export_chain(snapshot, NETWORKS[network_name], file):
                show(height, height, tip_height)
            file.flush()
            os.fsync(file.fileno())
            tip = schema.meta_id(snapshot, schema.META_TIP) or b""
        unfinished.replace(path)
    except OSError as error:
        raise CommandFailedError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()
        store.close()
    return Exported(str(path), path.stat().st_size, height, tip.hex())


def _remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed as they wrote the file have left beside it. Raises
    OSError."""
    name = re.compile(rf"\.{re.escape(path.name)}\.([0-9]+)\.unfinished")
    for found in path.parent.iterdir():
        written = name.fullmatch(found.name)
        if written and not Path("/proc", written[1]).exists():
            found.unlink(missing_ok=True)


def put_aside(data_dir: Path, network_name: str, which: str, is_aside: bool) -> PutAside:
    """Set an anchor of a store that no node has open aside, or take it back. `which` is its id in
    hex, or the height of one on the main chain.

    Raises a `StoreError`, `CommandFailedError`.
    """
    network = NETWORKS[network_name]
    is_height = len(which) < 20 and which.isascii() and which.isdecimal()
    if not (is_height or _ANCHOR_ID.fullmatch(which)):
        raise CommandFailedError(
            f"{which}: not an anchor: an id of 64 hex digits, or a height of the main chain"
        )
    store = open_store(data_dir, network, create=False)
    try:
        found = schema.HEIGHT.get(store, int(which)) if is_height else bytes.fromhex(which)
        if found is None:
            raise CommandFailedError(f"the main chain has no anchor at height {which}")
        chosen = CoinId(found)
        return trio.run(_run_put_aside, store, network, chosen, is_aside)
    finally:
        store.close()


async def _run_put_aside(
    store: KeyValueStore, network: Network, chosen: CoinId, is_aside: bool
) -> PutAside:
    chain = await _open(store, network)
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        failure: CommandFailedError | None = None
        changed = False
        try:
            changed = await (chain.set_aside(chosen) if is_aside else chain.take_back(chosen))
        except UnknownAnchorError as error:
            failure = CommandFailedError(str(error))
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    status = chain.status.value
    return PutAside(chosen.hex(), is_aside, changed, status.tip.hex(), status.height)


def import_file(data_dir: Path, network_name: str, path: Path) -> FileResult:
    """Take the anchors of a file into a store, which is made if there is none.

    Raises a `StoreError`, `CommandFailedError`; what was taken in before stays.
    """
    network = NETWORKS[network_name]
    found = _network_of(path)
    if found is not network:
        raise CommandFailedError(
            f"{path} is of network {found.name}: run it with --network {found.name}"
        )
    store = open_store(prepare_data_dir(data_dir), network, create=True)
    try:
        return _take_in(store, network, path, "importing")
    finally:
        store.close()


def verify_file(path: Path) -> FileResult:
    """Validate the anchors of a file in memory. Raises `CommandFailedError`."""
    network = _network_of(path)
    store = MemoryStore()
    prepare(store, network)
    return _take_in(store, network, path, "verifying")


def _network_of(path: Path) -> Network:
    """Return the network that a file's head names. Raises `CommandFailedError`."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + 4)
            chain_id = int.from_bytes(head[len(MAGIC) :], "big")
            for network in NETWORKS.values():
                if network.chain_id == chain_id:
                    file.seek(0)
                    read_head(file, network)
                    return network
    except OSError as error:
        raise CommandFailedError(f"{path}: {error.strerror}") from None
    except ProtocolError as error:
        raise CommandFailedError(f"{path}: this is no chain file: {error.in_words()}") from None
    known = head.startswith(MAGIC)
    problem = f"of an unknown chain, {chain_id:#x}" if known else "no chain file"
    raise CommandFailedError(f"{path} is {problem}")


def _take_in(store: KeyValueStore, network: Network, path: Path, what: str) -> FileResult:
    try:
        with progress(what) as show:
            return trio.run(_run_import, store, network, path, show)
    except* ImportFailedError as group:
        failure = _first(group)
        raise CommandFailedError(f"{path}: {failure}") from None
    except* _InterruptedError as group:
        raise CommandFailedError(f"{_first(group)}: run it again to go on from there") from None
    except* OSError as group:
        raise CommandFailedError(f"{path}: {_first(group)}") from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner


class _InterruptedError(Exception):
    """A signal ended an import."""


async def _open(store: KeyValueStore, network: Network) -> ChainService:
    """Open the chain of a store that no node has open."""
    cores = len(os.sched_getaffinity(0))
    return await ChainService.open(
        store,
        network,
        clock=SystemClock(),
        writer=ThreadRunner(1),
        verifier=ThreadRunner(cores),
        verifiers=cores,
        backend=default_backend(),
        log=structlog.wrap_logger(None, processors=[_drop]),
    )


async def _run_import(store: KeyValueStore, network: Network, path: Path, show: Show) -> FileResult:
    chain = await _open(store, network)
    reached = 0

    def note(step: ImportProgress) -> None:
        nonlocal reached
        reached = step.height
        show(step.height, step.read_bytes, step.file_bytes)

    anchors: int | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_on_signals, scope)
            anchors = await import_chain(chain, path, ThreadRunner(1), note)
        nursery.cancel_scope.cancel()
    if anchors is None:
        raise _InterruptedError(f"interrupted at height {reached}")
    status = chain.status.value
    return FileResult(
        network.name,
        anchors,
        status.height,
        status.tip.hex(),
        Amount(status.supply),
        Amount(status.pool),
    )


async def _cancel_on_signals(scope: trio.CancelScope) -> None:
    with heeded_signals(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def _drop(*_: object) -> str:
    """Leave out what the chain would log: failures are reported, progress is shown."""
    raise structlog.DropEvent
