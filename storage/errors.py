"""What can be wrong with a store, each in one line that says what to do.

StoreError                  whatever a store can fail with; `path` names the store or file
├── StoreMissing            there is none, and none was to be created
├── StoreLocked             another process has it open
├── StoreReadOnly           it cannot be written to
├── StoreFull               no space left on the device
├── StoreCorrupt            what is on disk is damaged
├── StoreUnreadable         any other failure of the device or file system
├── StoreClosed             used after it was closed
├── WrongNetwork            it holds another network's chain
├── NewerVersion            its layout is of a later program
├── NoMigration             its layout is older, and no step leads here
├── BadBackup               a backup does not equal its source, or has no place to go
└── NotRepairable           what is left of a store cannot be made whole
"""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """A store failed. The text is one line for a person; `path` names what it is about."""

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.path = path


class StoreMissing(StoreError):
    """There is no store, and none was to be created."""


class StoreLocked(StoreError):
    """Another process has the store open."""


class StoreReadOnly(StoreError):
    """The store cannot be written to."""


class StoreFull(StoreError):
    """No space is left on the device."""


class StoreCorrupt(StoreError):
    """What is on disk is damaged, or does not decode."""


class StoreUnreadable(StoreError):
    """The device or file system failed in some other way."""


class StoreClosed(StoreError):
    """The store was used after it had been closed."""


class WrongNetwork(StoreError):
    """The store holds another network's chain."""


class NewerVersion(StoreError):
    """The store's layout is of a later version of the program."""


class NoMigration(StoreError):
    """The store's layout is older than this program's, and no migration step leads here."""


class BadBackup(StoreError):
    """A backup does not equal its source, or there is no place for it."""


class NotRepairable(StoreError):
    """What is left of the store cannot be made whole."""
