"""Open wallets that follow the chain: who waits for one, and how far behind they are said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.framework.wallet_node import wallet_node
from unchained.node.wallet.errors import StoreDamagedError, WalletClosedError
from unchained.node.wallet.wallet import Wallet


async def test_who_waits_for_a_wallet_to_read_the_chain_waits_no_longer_once_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        await node.settle()
        monkeypatch.setattr(node.wallets, "_advance_all", trio.sleep_forever)
        await node.mine()

        async def ask() -> None:
            with pytest.raises(WalletClosedError):
                await node.wallets.call("a", Wallet.balance)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                await node.wallets.close("a")


async def test_the_wallets_have_come_as_far_as_the_last_of_them(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        for name in ("a", "b"):
            await node.wallets.create(name, "pass")
        await node.mine(5)
        assert node.wallets.statistics().reached == 5
        await node.wallets.rescan("b", 3)
        found = node.wallets.statistics()
        assert (found.behind, found.reached) == (1, 2)


async def test_a_wallet_that_is_followed_no_more_tells_no_old_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        await node.mine()

        def damaged(*_: object) -> None:
            raise StoreDamagedError("a page is gone")

        with monkeypatch.context() as patch:
            patch.setattr(Wallet, "advance", damaged)
            await node.mine()
            for _ in range(2):
                with pytest.raises(StoreDamagedError, match="a page is gone"):
                    await node.wallets.balance("a")
        (found,) = await node.wallets.wallets()
        assert found.failure == "a page is gone"
        await node.wallets.rescan("a")
        await node.settle()
        await node.wallets.balance("a")


async def test_why_a_wallet_could_not_be_opened_is_told_to_who_uses_it(tmp_path: Path) -> None:
    home = wallet_node(tmp_path)
    async with home.running() as node:
        await node.wallets.create("a", "pass")
        await node.settle()
    for path in list(tmp_path.rglob("a.db*")):  # noqa: ASYNC240 - no node runs
        path.write_bytes(b"no database" * 100)
    async with home.running() as node:
        with pytest.raises(WalletClosedError, match=r"could not be opened: .*move it away"):
            await node.wallets.call("a", Wallet.balance)
