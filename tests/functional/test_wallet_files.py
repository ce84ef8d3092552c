"""A running node's wallets are backed up, restored, renamed and deleted; in virtual time."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.consensus.params import REG
from unchained.node.wallet.errors import (
    BackupError,
    BadWalletNameError,
    NoSuchWalletError,
    NotConfirmedError,
    StillUnlockedError,
    WalletClosedError,
    WalletExistsError,
)
from unchained.node.wallet.payee_book import PayeeBook
from unchained.node.wallet.records import Payee
from unchained.node.wallet.wallet import Wallet

UNC = 10**8


async def funded(node: WalletNode, name: str) -> None:
    await node.wallets.create(name, "pass")
    await node.wallets.unlock(name, "pass", 86_400)
    await node.mine(3, name)


async def total(node: WalletNode, name: str) -> int:
    await node.settle()
    return (await node.wallets.call(name, Wallet.balance)).on_chain


async def test_a_backup_of_a_wallet_that_goes_on(tmp_path: Path) -> None:
    async with wallet_node(tmp_path / "wallets").running() as node:
        await funded(node, "a")
        await node.wallets.call("a", lambda a: PayeeBook(a.store, REG).add("me", a.address()).name)
        path = tmp_path / "a.backup"
        await node.wallets.backup("a", path)
        await node.wallets.send("a", [Payee("me", UNC // 2, b"")])
        await node.mine(2, "a")
        assert await node.wallets.restore_backup(path, "b") == "b"
        # the copy reads what has happened since
        assert await total(node, "b") == await total(node, "a")
        with pytest.raises(WalletExistsError):
            await node.wallets.restore_backup(path)
        with pytest.raises(NoSuchWalletError):
            await node.wallets.backup("none", tmp_path / "none")
        with pytest.raises(BackupError):
            await node.wallets.backup("a", path)


async def test_a_wallet_goes_when_it_is_locked_and_named(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await funded(node, "a")
        held = await total(node, "a")
        with pytest.raises(StillUnlockedError):
            await node.wallets.delete("a", "a")
        node.wallets.lock("a")
        for confirm in ("", "b", "A"):
            with pytest.raises(NotConfirmedError):
                await node.wallets.delete("a", confirm)
        assert (await node.wallets.contents("a")).on_chain == held
        gone = await node.wallets.delete("a", "a")
        assert (gone.on_chain, gone.labels, gone.watch_only) == (held, 0, False)
        assert os.listdir(tmp_path) == []
        assert await node.wallets.wallets() == []
        with pytest.raises(NoSuchWalletError):
            await node.wallets.delete("a", "a")
        # the name is free again, and a closed one goes as well
        await node.wallets.create("a", "pass")
        await node.wallets.close("a")
        with pytest.raises(NotConfirmedError):
            await node.wallets.delete("a", "x")
        with pytest.raises(WalletClosedError):
            node.wallets.wallet("a")
        await node.wallets.delete("a", "a")
        assert os.listdir(tmp_path) == []


async def test_no_way_gives_a_wallet_a_name_that_reads_as_an_option(tmp_path: Path) -> None:
    """`notify.command` hands the name to programs."""
    async with wallet_node(tmp_path / "wallets").running() as node:
        await funded(node, "a")
        node.wallets.lock("a")
        words = await node.wallets.create("b", "pass")
        view = await node.wallets.call("a", Wallet.export_watch)
        await node.wallets.backup("a", tmp_path / "a.backup")
        ways = [
            lambda: node.wallets.create("-x", "pass"),
            lambda: node.wallets.create("-x", "pass", mnemonic=words),
            lambda: node.wallets.import_watch("-x", view),
            lambda: node.wallets.restore_backup(tmp_path / "a.backup", "-x"),
            lambda: node.wallets.rename("a", "-x"),
        ]
        for way in ways:
            with pytest.raises(BadWalletNameError, match="no - at the beginning"):
                await way()
        assert [found.name for found in await node.wallets.wallets()] == ["a", "b"]
        # What has been called so before can be called otherwise.
        await node.wallets.close("b")
        for file in (tmp_path / "wallets").glob("b.*"):
            file.rename(file.with_name(f"-{file.name}"))
    async with wallet_node(tmp_path / "wallets").running() as node:
        await node.wallets.open("-b")
        await node.wallets.rename("-b", "b")
        assert {found.name for found in await node.wallets.wallets()} == {"a", "b"}


async def test_a_wallet_is_called_otherwise(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await funded(node, "a")
        held = await total(node, "a")
        with pytest.raises(StillUnlockedError):
            await node.wallets.rename("a", "b")
        node.wallets.lock("a")
        await node.wallets.create("c", "pass")
        with pytest.raises(WalletExistsError):
            await node.wallets.rename("a", "c")
        assert await total(node, "a") == held
        await node.wallets.rename("a", "b")
        assert await total(node, "b") == held
        assert [found.name for found in await node.wallets.wallets()] == ["b", "c"]
        with pytest.raises(NoSuchWalletError):
            await node.wallets.rename("a", "d")
        await node.wallets.close("b")
        await node.wallets.rename("b", "d")
        with pytest.raises(WalletClosedError):
            node.wallets.wallet("d")
        await node.wallets.open("d")
        assert await total(node, "d") == held


async def test_of_moves_at_once_one_is_made(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        wallets = node.wallets
        for _ in range(8):
            await wallets.create("a", "pass")
            moved: list[str] = []

            async def attempt(kind: str, move: Awaitable[object], moved: list[str] = moved) -> None:
                with suppress(NoSuchWalletError):
                    await move
                    moved.append(kind)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(attempt, "b", wallets.rename("a", "b"))
                nursery.start_soon(attempt, "c", wallets.rename("a", "c"))
                nursery.start_soon(attempt, "gone", wallets.delete("a", "a"))
                nursery.start_soon(attempt, "open", wallets.open("a"))
            (made,) = [kind for kind in moved if kind != "open"]
            left = {made} - {"gone"}
            assert {found.name for found in await wallets.wallets() if found.info} == left
            assert {name.partition(".")[0] for name in os.listdir(tmp_path)} == left
            for name in left:
                await wallets.delete(name, name)
