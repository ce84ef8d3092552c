"""A running node's wallets are backed up, restored, renamed and deleted; in virtual time."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.consensus.params import REG
from unchained.node.wallet.errors import (
    BackupError,
    BadWalletNameError,
    FileInTheWayError,
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
        assert await node.wallets.restore_backup(path, "pass", "b") == "b"
        # the copy reads what has happened since
        assert await total(node, "b") == await total(node, "a")
        with pytest.raises(WalletExistsError):
            await node.wallets.restore_backup(path, "pass")
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
        with pytest.raises(StillUnlockedError):
            await node.wallets.contents("a")
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


@pytest.mark.parametrize("damaged", ["a.wallet", "a.db"])
async def test_a_wallet_that_cannot_be_read_goes_as_well(damaged: str, tmp_path: Path) -> None:
    node = wallet_node(tmp_path)
    async with node.running():
        await funded(node, "a")
        await node.wallets.create("b", "pass")
    (tmp_path / damaged).write_bytes(b"no wallet")
    async with node.running():
        (found, other) = await node.wallets.wallets()
        assert (found.name, found.info) == ("a", None)
        assert found.failure
        contents = await node.wallets.contents("a")
        assert contents.damage == found.failure
        assert contents.on_chain is None
        with pytest.raises(NotConfirmedError):
            await node.wallets.delete("a", "b")
        assert (await node.wallets.delete("a", "a")).damage == found.failure
        assert {name.partition(".")[0] for name in os.listdir(tmp_path)} == {"b"}
        assert [it.name for it in await node.wallets.wallets()] == [other.name]
        # its name is free again
        await node.wallets.create("a", "pass")


async def test_a_wallet_that_was_altered_while_it_was_open_goes_as_well(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await funded(node, "a")
        node.wallets.lock("a")
        await node.wallets.call(
            "a", lambda opened: opened.store.run("UPDATE coins SET value = 9223372036854775807")
        )
        assert (await node.wallets.contents("a")).damage
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
            lambda: node.wallets.restore_backup(tmp_path / "a.backup", "pass", "-x"),
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


async def test_a_file_that_a_wallet_left_behind_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "wallets"
    async with wallet_node(directory).running() as node:
        wallets = node.wallets
        await wallets.create("a", "pass")
        await wallets.backup("a", tmp_path / "a.backup")
        left = directory / "b.db"
        left.write_bytes(b"")
        for made in (
            wallets.create("b", "pass"),
            wallets.restore_backup(tmp_path / "a.backup", "pass", "b"),
            wallets.rename("a", "b"),
        ):
            with pytest.raises(FileInTheWayError, match=str(left)):
                await made
        assert [found.name for found in await wallets.wallets() if found.info] == ["a"]
        left.unlink()
        await wallets.rename("a", "b")


async def test_keys_are_not_written_beside_a_file_of_another_wallet(tmp_path: Path) -> None:
    directory = tmp_path / "wallets"
    async with wallet_node(directory).running() as node:
        wallets = node.wallets
        words = await wallets.create("a", "pass")
        await wallets.create("b", "pass")
        view = await wallets.call("a", Wallet.export_watch)
        await wallets.call("a", lambda a: PayeeBook(a.store, REG).add("me", a.address()).name)
        for name in ("a", "b"):
            await wallets.close(name)
            (directory / f"{name}.wallet").unlink()
        foreign, halved = directory / "b.db", directory / "c.db"
        halved.write_bytes(foreign.read_bytes()[:5000])
        before = foreign.read_bytes()
        for left in (foreign, halved):
            for way in (
                wallets.create(left.stem, "pass", mnemonic=words),
                wallets.import_watch(left.stem, view),
            ):
                with pytest.raises(FileInTheWayError, match=str(left)):
                    await way
            assert not left.with_suffix(".wallet").exists()
        assert foreign.read_bytes() == before
        # beside its own file the keys are made again, and what no words bring back is there
        await wallets.create("a", "pass", mnemonic=words)
        assert await wallets.call("a", lambda a: PayeeBook(a.store, REG).names()) != {}
        stray = directory / "d.db-wal"
        stray.touch()
        with pytest.raises(FileInTheWayError, match=str(stray)):
            await wallets.create("d", "pass")


class Rights:
    """Whoever gives rights to wallets by name; `files` are those that were there when asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.told: list[tuple[str, ...]] = []
        self.files: list[list[str]] = []
        self.error: OSError | None = None

    def _note(self, *told: str) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(told)
        self.files.append(sorted(path.name for path in self._directory.glob("*.wallet")))

    def forget_wallet(self, wallet: str) -> None:
        self._note(wallet)

    def rename_wallet(self, wallet: str, new: str) -> None:
        self._note(wallet, new)


async def test_rights_to_a_name_end_before_another_wallet_has_it(tmp_path: Path) -> None:
    directory = tmp_path / "wallets"
    async with wallet_node(directory).running() as node:
        wallets = node.wallets
        rights = Rights(directory)
        wallets.tell_of_names(rights)
        await wallets.create("a", "pass")
        await wallets.backup("a", tmp_path / "a.backup")
        view = await wallets.call("a", Wallet.export_watch)
        await wallets.import_watch("seen", view)
        await wallets.restore_backup(tmp_path / "a.backup", "pass", "copy")
        assert rights.told == [("a",), ("seen",), ("copy",)]
        for (name,), files in zip(rights.told, rights.files, strict=True):
            assert name + ".wallet" not in files
        # whose name it is already, keeps them
        for made in (
            wallets.create("a", "pass"),
            wallets.import_watch("a", view),
            wallets.restore_backup(tmp_path / "a.backup", "pass"),
        ):
            with pytest.raises(WalletExistsError):
                await made
        assert len(rights.told) == 3
        await wallets.rename("copy", "other")
        await wallets.delete("other", "other")
        assert rights.told[3:] == [("copy", "other"), ("other",)]
        assert "other.wallet" in rights.files[-1]


async def test_a_wallet_whose_files_cannot_be_moved_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await funded(node, "a")
        node.wallets.lock("a")
        held = await total(node, "a")
        files = set(os.listdir(tmp_path))

        def fail(path: Path, *_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", fail)
            with pytest.raises(OSError, match="No space left"):
                await node.wallets.delete("a", "a")
        assert await total(node, "a") == held
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail)
            with pytest.raises(OSError, match="No space left"):
                await node.wallets.rename("a", "b")
        assert await total(node, "a") == held
        assert {name for name in os.listdir(tmp_path) if name.endswith((".wallet", ".db"))} == {
            name for name in files if name.endswith((".wallet", ".db"))
        }


async def test_a_move_whose_caller_gave_up_is_whole(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        names = node.wallets.names
        await node.wallets.create("a", "pass")

        async def give_up_while_it_is_closed(move: Awaitable[object]) -> bool:
            gave_up = False
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal gave_up
                    await names.wait_for(lambda open_now: not open_now)
                    gave_up = True
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await trio.testing.wait_all_tasks_blocked()
                await move
                nursery.cancel_scope.cancel()
            return gave_up

        assert await give_up_while_it_is_closed(node.wallets.rename("a", "b"))
        (found,) = await node.wallets.wallets()
        assert (found.name, found.info is not None) == ("b", True)
        assert await give_up_while_it_is_closed(node.wallets.delete("b", "b"))
        assert await node.wallets.wallets() == []
        with pytest.raises(NoSuchWalletError):
            node.wallets.wallet("b")
