"""What can be wrong with a store, each in one line that says what to do.

StoreError                whatever a store can fail with; `path` names the store or file
├── StoreMissingError     there is none, and none was to be created
├── StoreLockedError      another process has it open
├── StoreReadOnlyError    it cannot be written to
├── StoreFullError        no space left on the device
├── StoreCorruptError     what is on disk is damaged
├── StoreUnreadableError  any other failure of the device or file system
├── StoreClosedError      used after it was closed
├── WrongNetworkError     it holds another network's chain
├── NewerVersionError     its layout is of a later program
├── NoMigrationError      its layout is older, and no step leads here
├── BadBackupError        a backup does not equal its source, or has no place to go
└── NotRepairableError    what is left of a store cannot be made whole
"""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """A store failed. The text is one line for a person; `path` names what it is about."""

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.path = path


class StoreMissingError(StoreError):
    """There is no store, and none was to be created."""


class StoreLockedError(StoreError):
    """Another process has the store open."""


class StoreReadOnlyError(StoreError):
    """The store cannot be written to."""


class StoreFullError(StoreError):
    """No space is left on the device."""


class StoreCorruptError(StoreError):
    """What is on disk is damaged, or does not decode."""


class StoreUnreadableError(StoreError):
    """The device or file system failed in some other way."""


class StoreClosedError(StoreError):
    """The store was used after it had been closed."""


class WrongNetworkError(StoreError):
    """The store holds another network's chain."""


class NewerVersionError(StoreError):
    """The store's layout is of a later version of the program."""


class NoMigrationError(StoreError):
    """The store's layout is older than this program's, and no migration step leads here."""


class BadBackupError(StoreError):
    """A backup does not equal its source, or there is no place for it."""


class NotRepairableError(StoreError):
    """What is left of the store cannot be made whole. `kept`: where its damaged files were put,
    None if no file was damaged."""

    def __init__(self, message: str, *, path: Path | None = None, kept: Path | None = None) -> None:
        super().__init__(message, path=path)
        self.kept = kept
