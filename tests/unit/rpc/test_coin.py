"""The coins of a lock are read in pages that bound what is read, not only what is found."""

from __future__ import annotations

import pytest

from unchained.node.primitives.types import CoinId, Lock
from unchained.node.rpc.methods import coin
from unchained.storage import schema
from unchained.storage.kv import Batch, Snapshot
from unchained.storage.memory import MemoryStore
from unchained.storage.schema import OwnedCoin

LOCK = Lock(b"\7" * 32)
READ_MAX = 10


class Counted:
    """A reader that counts what is looked up in the coin set."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.gets = 0

    def get(self, key: bytes) -> bytes | None:
        self.gets += 1
        return self._snapshot.get(key)

    def __getattr__(self, name: str) -> object:
        return getattr(self._snapshot, name)


@pytest.mark.parametrize("after", [None, b"\0" * 31 + b"\5"])
def test_a_lock_of_spent_coins_costs_a_page_and_says_where_to_go_on(
    after: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coin, "OWNED_READ_MAX", READ_MAX)
    store, batch = MemoryStore(), Batch()
    ids = [CoinId(number.to_bytes(32, "big")) for number in range(25)]
    for coin_id in ids:
        batch.put(schema.OWNER.key(LOCK, coin_id), schema.OWNER.encode(OwnedCoin(1, 1)))
    store.write(batch, sync=False)
    with store.snapshot() as snapshot:
        reads: list[int] = []
        seen: list[bytes] = []
        while True:
            counted = Counted(snapshot)
            page = coin._owned(counted, LOCK, False, after, 1)  # type: ignore[arg-type]
            reads.append(counted.gets)
            assert page.coins == []
            if page.next is None:
                break
            after = page.next
            seen.append(bytes(after))
        assert max(reads) == READ_MAX
        assert sum(reads) == len(ids) - (ids.index(CoinId(seen[0])) - READ_MAX + 1)
        everything = coin._owned(snapshot, LOCK, True, None, 1000)
        assert [bytes(owned.id) for owned in everything.coins] == ids[:READ_MAX]
        assert everything.next == ids[READ_MAX - 1]
