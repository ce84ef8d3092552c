"""Opens a node's store: the lock, the network, the version of the layout, unfinished work."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.storage import schema
from unchained.storage.errors import (
    NewerVersionError,
    NoMigrationError,
    StoreCorruptError,
    StoreMissingError,
    WrongNetworkError,
)
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.leveldb import REPAIR_HINT, LevelOptions, LevelStore
from unchained.storage.lock import DirectoryLock, os_failure
from unchained.storage.rebuild import finish_rebuild

STORE_NAME: Final = "chain"
"""The database's folder in the data directory."""


class Migration(msgspec.Struct, frozen=True):
    """A step from one version of the layout to the next.

    `work` may write several batches, and is run again from its start if it was cut off. The
    version goes up after it.
    """

    source: int
    target: int
    work: Callable[[KeyValueStore], None]


MIGRATIONS: Final[tuple[Migration, ...]] = ()
"""All steps there are. None leads from version 1: its chains are those of other rules."""


class NodeStore(LevelStore):
    """The store of a data directory, with the directory's lock."""

    def __init__(
        self, directory: Path, lock: DirectoryLock, *, create: bool, options: LevelOptions | None
    ) -> None:
        super().__init__(directory / STORE_NAME, create=create, options=options)
        self._lock = lock

    def close(self) -> None:
        """Wait for calls in other threads, close, and release the lock."""
        super().close()
        self._lock.release()


def open_store(
    directory: Path,
    network: Network,
    *,
    create: bool,
    options: LevelOptions | None = None,
    migrations: Sequence[Migration] = MIGRATIONS,
) -> NodeStore:
    """Open the store of a data directory and make it ready for this program.

    `create` makes directory (mode 0700) and store where there are none. Nobody else can open
    it until it is closed. Raises a `StoreError`; then nothing is held and nothing is lost.
    """
    _make_ready(directory, create=create)
    lock = DirectoryLock(directory)
    try:
        store = NodeStore(directory, lock, create=create, options=options)
        try:
            prepare(store, network, create=create, migrations=migrations, path=directory)
        except BaseException:
            store.close()
            raise
    except BaseException:
        lock.release()
        raise
    return store


def prepare(
    store: KeyValueStore,
    network: Network,
    *,
    create: bool = True,
    migrations: Sequence[Migration] = MIGRATIONS,
    path: Path | None = None,
) -> None:
    """Check that a store is this network's, bring its layout up to date and finish what was
    cut off; with `create`, mark an empty store as this network's.

    `path` is what errors name. Raises `WrongNetworkError`, `NewerVersionError`, `NoMigrationError`,
    `StoreMissingError`, `StoreCorruptError` or what reading and writing raise.
    """
    where = path or "the store"
    version = schema.meta_number(store, schema.META_SCHEMA_VERSION)
    if version is None:
        if next(iter(store.keys()), None) is not None:
            raise StoreCorruptError(
                f"{where}: the store is damaged (its version is missing): {REPAIR_HINT}", path=path
            )
        if not create:
            raise StoreMissingError(f"{where}: the store is empty", path=path)
        _mark(store, network)
        return
    # Before the genesis: that of another layout may be that of other rules.
    _check_migrations(version, migrations, path)
    genesis_id = genesis_of(network).coin.id
    found_id = schema.META.get(store, schema.META_GENESIS)
    if found_id != genesis_id:
        name = schema.META.get(store, schema.META_NETWORK) or b"another network"
        raise WrongNetworkError(
            f"{where}: holds the chain of {name.decode('ascii', 'replace')} "
            f"(genesis {(found_id or b'').hex()[:8]}), expected {network.name} "
            f"(genesis {genesis_id.hex()[:8]}): name another --data-dir or --network",
            path=path,
        )
    if version > schema.SCHEMA_VERSION:
        raise NewerVersionError(
            f"{where}: written by a later version of the program (layout {version}, this one "
            f"knows up to {schema.SCHEMA_VERSION}): update unchained-node",
            path=path,
        )
    _migrate(store, version, migrations)
    finish_rebuild(store, network)


def _make_ready(directory: Path, *, create: bool) -> None:
    try:
        if not directory.is_dir():
            if not create and not directory.exists():
                raise StoreMissingError(f"{directory}: there is no such directory", path=directory)
            directory.mkdir(mode=0o700, parents=True)
        if create and stat.S_IMODE(directory.stat().st_mode) & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise os_failure(error, directory) from None


def _mark(store: KeyValueStore, network: Network) -> None:
    batch = Batch()
    key = schema.META.key
    batch.put(key(schema.META_SCHEMA_VERSION), schema.encode_number(schema.SCHEMA_VERSION))
    batch.put(key(schema.META_GENESIS), genesis_of(network).coin.id)
    batch.put(key(schema.META_NETWORK), network.name.encode())
    store.write(batch, sync=True)


def _check_migrations(version: int, migrations: Sequence[Migration], path: Path | None) -> None:
    steps = {step.source: step for step in migrations}
    while version < schema.SCHEMA_VERSION:
        step = steps.get(version)
        if step is None:
            raise NoMigrationError(
                f"{path or 'the store'}: holds a chain of earlier rules (layout {version}, this "
                f"program has {schema.SCHEMA_VERSION}): start anew with `unchained-node db reset`, "
                "which keeps wallets, peer key and configuration",
                path=path,
            )
        version = step.target


def _migrate(store: KeyValueStore, version: int, migrations: Sequence[Migration]) -> None:
    steps = {step.source: step for step in migrations}
    while version < schema.SCHEMA_VERSION:
        step = steps[version]
        step.work(store)
        batch = Batch()
        batch.put(schema.META.key(schema.META_SCHEMA_VERSION), schema.encode_number(step.target))
        store.write(batch, sync=True)
        version = step.target
