"""Writing the file that `chain.export` asks for: inside the data directory, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import trio

from unchained.node.base.runner import Runner
from unchained.node.base.user_text import user_text
from unchained.node.chain.export import export_chain
from unchained.node.consensus.params import Network
from unchained.node.rpc.core.errors import BusyError, RefusedError
from unchained.node.rpc.core.values import Hash
from unchained.storage import schema
from unchained.storage.kv import KeyValueStore

FOLDER: Final = "exports"
"""Folder of the data directory that exports are made in."""

EXPORT_BATCH_ANCHORS: Final = 256
"""Anchors that are written in one hop to the worker thread; between two the call can end."""


@user_text(
    "A finished chain file: its path on the node's machine, its size, and the tip it ends in."
)
class ExportInfo(msgspec.Struct, frozen=True):
    path: str
    bytes: int
    height: int
    tip: Hash


class Exporter:
    """Writes chain files, one at a time."""

    def __init__(
        self, store: KeyValueStore, network: Network, data_dir: Path, runner: Runner
    ) -> None:
        self._store = store
        self._network = network
        self._folder = data_dir / FOLDER
        self._runner = runner
        self._busy = False

    async def export(self, name: str) -> ExportInfo:
        """Write the chain to a file of this name. Cancelling it leaves no file.

        Raises `RefusedError` if there is one already or the disk does not take it, `BusyError`
        while another export runs, a `StoreError`.
        """
        if self._busy:
            raise BusyError("another export is under way", retry_after=10)
        self._busy = True
        try:
            return await self._export(self._folder / name)
        except OSError as error:
            raise RefusedError(
                f"cannot write {name}: {error.strerror}", error="NOT_WRITTEN"
            ) from None
        finally:
            self._busy = False

    async def _export(self, path: Path) -> ExportInfo:
        if await self._runner.run(os.path.lexists, path):
            raise RefusedError(f"{path} exists: choose another name", error="FILE_EXISTS")
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            return await self._write(path, unfinished)
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()

    async def _write(self, path: Path, unfinished: Path) -> ExportInfo:
        file = await self._runner.run(_create, unfinished)
        snapshot = await self._runner.run(self._store.snapshot)
        try:
            progress = export_chain(snapshot, self._network, file)
            height = 0
            while (reached := await self._runner.run(_advance, progress)) is not None:
                height = reached
            tip = schema.meta_id(snapshot, schema.META_TIP)
            assert tip is not None, "an opened chain has a tip"
            with trio.CancelScope(shield=True):
                size = await self._runner.run(_finish, file, unfinished, path)
        finally:
            snapshot.close()
            file.close()
        return ExportInfo(str(path), size, height, Hash(tip))


def _create(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # What a crash has left, of this file or another: there is one at a time.
    for left in path.parent.glob(".*.unfinished"):
        left.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _advance(progress: Iterator[tuple[int, int]]) -> int | None:
    """Write some anchors; return the height reached, None if there was nothing left."""
    height = None
    for height, _ in islice(progress, EXPORT_BATCH_ANCHORS):  # noqa: B007 - the last one counts
        pass
    return height


def _finish(file: BinaryIO, unfinished: Path, path: Path) -> int:
    file.flush()
    os.fsync(file.fileno())
    size = os.fstat(file.fileno()).st_size
    unfinished.replace(path)
    return size
