"""What a node's wallets do by themselves, beside what they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.framework.wallet_node import wallet_node
from unchained.node.primitives.types import Lock, Txid
from unchained.node.wallet.open_wallet import OpenWallet


async def test_no_claim_is_bid_again_while_something_else_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("bob", "pass")
        await node.settle()
        entry, lock = node.wallets._open["bob"], Lock(bytes(32))
        claimed: list[Lock] = []

        async def claim(_entry: OpenWallet, lock: Lock) -> None:
            claimed.append(lock)

        monkeypatch.setattr(node.wallets, "_driven_out", lambda _wallet: [(Txid(bytes(32)), lock)])
        monkeypatch.setattr(node.wallets, "_claim", claim)
        async with trio.open_nursery() as nursery, entry.sending:
            nursery.start_soon(node.wallets._bid_again, entry)
            await wait_all_tasks_blocked()
            assert claimed == []
        assert claimed == [lock]
