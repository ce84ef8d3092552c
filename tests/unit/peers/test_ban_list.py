"""Bans on disk."""

from __future__ import annotations

from unchained.node.peers.ban_list import BANS_MAX, BanList
from unchained.storage import schema
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore


def save(bans: BanList, store: MemoryStore) -> None:
    batch = Batch()
    bans.pending(batch)
    store.write(batch, sync=False)


def test_a_ban_that_gave_way_to_others_leaves_the_disk_too() -> None:
    store = MemoryStore()
    bans = BanList(store)
    for number in range(BANS_MAX):
        bans.add(f"group {number}", "forged", number)
    save(bans, store)
    bans.add("one more", "forged", BANS_MAX)
    save(bans, store)
    assert len(list(schema.BAN.scan(store))) == BANS_MAX
    again = BanList(store)
    assert again.is_banned("one more", BANS_MAX)
    assert not again.is_banned("group 0", BANS_MAX)
