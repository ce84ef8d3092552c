"""Bringing a chain file into a chain: read, prove and connect, each ahead of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import trio

from unchained.node.base.runner import Runner
from unchained.node.chain.cheap_checks import split_fitting
from unchained.node.chain.export import ImportFailedError, read_head, read_packages
from unchained.node.chain.results import Package
from unchained.node.chain.service import ChainService
from unchained.node.primitives.types import CoinId

ANCHORS_AT_ONCE: Final = 64
"""Anchors that are read, proven and connected together."""

BATCHES_AHEAD: Final = 2
"""Batches that wait between two steps."""


class ImportProgress(msgspec.Struct, frozen=True, gc=False):
    """How far an import is. `read_bytes` and `file_bytes` say how much of the file was read."""

    height: int
    connected: int
    read_bytes: int
    file_bytes: int


class _Batch(msgspec.Struct):
    packages: list[Package]
    read_bytes: int
    failure: ImportFailedError | None = None
    proven: frozenset[CoinId] = frozenset()


async def import_chain(
    chain: ChainService,
    path: Path,
    reader: Runner,
    progress: Callable[[ImportProgress], None],
) -> int:
    """Take in the anchors of a file; return how many it holds.

    Those that are known already are passed over, so an import that was cut off is resumed by
    running it again. What precedes a bad record stays. Raises `ImportFailedError`, a
    `ProtocolError` for the file's head, OSError.
    """
    file = await reader.run(path.open, "rb")
    try:
        await reader.run(read_head, file, chain.network)
        size = (await reader.run(path.stat)).st_size
        return await _import_from(chain, file, size, reader, progress)
    finally:
        file.close()


async def _import_from(
    chain: ChainService,
    file: BinaryIO,
    size: int,
    reader: Runner,
    progress: Callable[[ImportProgress], None],
) -> int:
    to_prove_in, to_prove = trio.open_memory_channel[_Batch](BATCHES_AHEAD)
    to_connect_in, to_connect = trio.open_memory_channel[_Batch](BATCHES_AHEAD)

    async def read() -> None:
        packages = read_packages(file, chain.network)
        async with to_prove_in:
            while (batch := await reader.run(_next_batch, packages, file)) is not None:
                await to_prove_in.send(batch)
                if batch.failure is not None:
                    return

    async def prove() -> None:
        async with to_connect_in:
            async for batch in to_prove:
                fitting, _ = split_fitting(batch.packages, {}, chain.network)
                coins = [
                    coin
                    for package in fitting
                    for coin in (package.anchor, *package.coins.values())
                ]
                forged = await chain.find_forged(coins)
                ids = [coin.id for coin in coins]
                batch.proven = frozenset(ids if forged is None else ids[: ids.index(forged)])
                await to_connect_in.send(batch)

    height = 0
    async with chain.bulk(), trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(prove)
        async for batch in to_connect:
            before = chain.statistics().connected
            done, error = await chain.submit_chain(batch.packages, proven=batch.proven)
            height += done
            if error is not None:
                raise ImportFailedError(height + 1, error)
            if batch.failure is not None:
                raise batch.failure
            connected = chain.statistics().connected - before
            progress(ImportProgress(height, connected, batch.read_bytes, size))
    return height


def _next_batch(packages: Iterator[Package], file: BinaryIO) -> _Batch | None:
    batch = _Batch([], 0)
    try:
        batch.packages.extend(islice(packages, ANCHORS_AT_ONCE))
    except ImportFailedError as failure:
        batch.failure = failure
    batch.read_bytes = file.tell()
    return batch if batch.packages or batch.failure is not None else None
