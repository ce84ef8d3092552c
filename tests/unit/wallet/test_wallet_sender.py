"""What the wallets of a node do while a transfer is on its way to the mempool."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.framework.wallet_node import wallet_node
from unchained.node.wallet.errors import StillWaitingError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.records import Payee
from unchained.node.wallet.wallet_follower import REBROADCAST_S

UNC = 10**8


async def test_what_is_on_its_way_to_the_mempool_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        await node.wallets.unlock("a", "pass", 86_400)
        await node.mine(1, "a")
        a = node.wallets.wallet("a")
        prepared = a.spender.pay([Payee(a.address(), UNC // 8, b"")], Fee(1))
        kept = a.record(a.finish(prepared), 0, change=prepared.change)
        submit, may_go = node.wallets._link.submit, trio.Event()

        async def held_up(transfer: bytes) -> bool:
            await may_go.wait()
            return await submit(transfer)

        async def give_up() -> None:
            with pytest.raises(StillWaitingError):
                await node.wallets.abandon("a", kept.txid)

        monkeypatch.setattr(node.wallets._link, "submit", held_up)
        await trio.sleep(REBROADCAST_S + 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up)
            await wait_all_tasks_blocked()
            may_go.set()
        assert [sent.txid for sent in a.store.waiting_outgoing()] == [kept.txid]
