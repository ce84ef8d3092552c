"""db.*: the store of a node that runs."""

from __future__ import annotations

from typing import Final

import msgspec

from unchained.node.base.runner import Runner
from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import RefusedError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.methods.keeping import FilePath, absolute_path
from unchained.storage.errors import StoreError
from unchained.storage.kv import KeyValueStore
from unchained.storage.maintenance import backup

BACKUP_S: Final = 6 * 3_600.0
"""A store of many gigabytes takes hours to be copied and read back."""


@user_text("A copy of a node's store: `path` is a data directory of its own. `size` in bytes.")
class CopiedStore(msgspec.Struct, frozen=True):
    path: str
    entries: int
    size: int


class DbRoom:
    """Methods that look after the store."""

    def __init__(self, store: KeyValueStore, runner: Runner) -> None:
        self._store = store
        self._runner = runner

    @method("db.backup", Access.FULL, timeout=BACKUP_S, errors=(RefusedError,))
    @user_text(
        """Copy the store, as it is at one moment, into a new data directory on the node's machine,
        and compare the copy before it gets its name. The node goes on meanwhile.

        Wallets are not in it: wallet.backup.
        """
    )
    async def backup(self, path: FilePath) -> CopiedStore:
        target = absolute_path(path)
        try:
            copied = await self._runner.run(backup, self._store, target)
        except StoreError as error:
            raise RefusedError(str(error), error="BACKUP_FAILED") from None
        except OSError as error:
            raise RefusedError(f"{target}: {error.strerror}", error="BACKUP_FAILED") from None
        return CopiedStore(str(target), copied.entries, copied.size)
