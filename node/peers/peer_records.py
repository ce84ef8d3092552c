"""Keeps the address book and the bans on disk."""

from __future__ import annotations

from typing import Final

import trio

from unchained.node.base.runner import Runner
from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.ban_list import BanList
from unchained.storage.kv import Batch, KeyValueStore

SAVE_EVERY_S: Final = 60.0
BANS_SAVED_APART_S: Final = 1.0
"""Seconds between two times that bans are saved: each waits for the disk, and who comes under ever
new names is banned again and again."""


class PeerRecords:
    """What is known of peers: bans are saved at once, so that no loss of power ends one; addresses
    now and then, which others know as well."""

    def __init__(
        self, store: KeyValueStore, writer: Runner, book: AddressBook, bans: BanList
    ) -> None:
        self._store = store
        self._writer = writer
        self._book = book
        self._bans = bans
        self._to_save = trio.Event()

    def bans_changed(self) -> None:
        """Save the bans soon (`reputation.BanObserver`)."""
        self._to_save.set()

    async def run(self) -> None:
        """Save until cancelled; call `save` then."""
        while True:
            with trio.move_on_after(SAVE_EVERY_S):
                await self._to_save.wait()
            self._to_save = trio.Event()
            await self.save()
            await trio.sleep(BANS_SAVED_APART_S)

    async def save(self) -> None:
        """Save what has changed."""
        batch = Batch()
        self._bans.pending(batch)
        has_bans = len(batch) > 0
        self._book.pending(batch)
        if len(batch):
            await self._writer.run(lambda: self._store.write(batch, sync=has_bans))
