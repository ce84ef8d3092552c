"""Open wallets that follow the chain: who waits for one, and how far behind they are said to be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.framework.wallet_node import wallet_node
from unchained.node.base.clock import SystemClock
from unchained.node.rpc.http.event_streams import EventsGoneError
from unchained.node.rpc.http.wallet_event_log import WalletEventLog
from unchained.node.rpc.methods.contracts import ContractRoom
from unchained.node.rpc.methods.invoice import InvoiceRoom
from unchained.node.rpc.methods.keeping import KeepingRoom
from unchained.node.rpc.methods.wallet import WalletRoom
from unchained.node.rpc.methods.wallet_history import HistoryRoom
from unchained.node.rpc.methods.wallet_shapes import WalletEntry
from unchained.node.wallet import event_records
from unchained.node.wallet.errors import (
    EventsForgottenError,
    StoreDamagedError,
    WalletClosedError,
)
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
        entry = WalletEntry.of(found.name, found.info, found.progress, found.failure)
        assert entry.progress is not None
        assert not entry.progress.caught_up
        assert node.wallets.statistics().behind == 1
        await node.wallets.rescan("a")
        await node.settle()
        await node.wallets.balance("a")
        (found,) = await node.wallets.wallets()
        entry = WalletEntry.of(found.name, found.info, found.progress, found.failure)
        assert entry.progress is not None
        assert entry.progress.caught_up
        assert node.wallets.statistics().behind == 0


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


async def test_what_a_crash_has_left_of_keys_goes_when_wallets_are_opened(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    async with wallet_node(home).running() as node:
        await node.wallets.create("a", "pass")
    (home / "a.wallet").rename(elsewhere / "keys")
    (home / "a.wallet").symlink_to(elsewhere / "keys.wallet")
    (elsewhere / "keys").rename(elsewhere / "keys.wallet")
    (home / "loop.wallet").symlink_to(home / "loop.wallet")
    left = [home / ".b.wallet", home / ".a.db", elsewhere / ".keys.wallet"]
    ours = [path.with_name(f"{path.name}.0123456789abcdef") for path in left]
    others = [home / ".a.txt.0123456789abcdef", home / ".b c.wallet.0123456789abcdef"]
    for path in [*ours, *others]:
        path.write_bytes(b"secret")
    async with wallet_node(home).running() as node:
        assert [path for path in ours if path.exists()] == []
        assert all(path.exists() for path in others)
        a, loop = await node.wallets.wallets()
        assert (a.name, a.failure, loop.info) == ("a", "", None)


async def test_a_reader_who_has_seen_more_than_a_log_that_was_cut_off_is_told_so(
    tmp_path: Path,
) -> None:
    async with wallet_node(tmp_path).running() as node:
        wallets = node.wallets
        await wallets.create("a", "pass")
        await node.mine(2, "a")
        await node.settle()
        kept = {path: path.read_bytes() for path in files(tmp_path)}
        reached = wallets.last_event("a")
        invoices = InvoiceRoom(wallets, cast(Any, NoVotes()), SystemClock())
        for _ in range(2):
            await invoices.make(wallet="a")
        seen = wallets.last_event("a")
        assert seen > reached
        await wallets.close("a")
        for path in files(tmp_path):
            path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)
        await wallets.open("a")
        await node.settle()
        assert wallets.last_event("a") == reached
        history = HistoryRoom(wallets, cast(Any, NoVotes()))
        with pytest.raises(EventsForgottenError, match=f"its last entry is {reached}"):
            await history.history_since(seen, "a")
        with pytest.raises(EventsForgottenError):
            await anext(wallets.events("a", seen))
        with pytest.raises(EventsGoneError) as gone:
            async with WalletEventLog(wallets).open("a", seen):
                pass
        assert (gone.value.oldest, gone.value.last) == (1, reached)
        # who has seen no more than that goes on
        assert (await history.history_since(reached, "a")).next == reached
        async with WalletEventLog(wallets).open("a", reached) as entries:
            await invoices.make(wallet="a")
            assert [entry.sequence for entry in await anext(entries)] == [reached + 1]


async def test_a_reader_who_has_seen_all_before_the_oldest_entry_has_missed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_records, "EVENTS_KEPT", 2)
    async with wallet_node(tmp_path).running() as node:
        wallets = node.wallets
        await wallets.create("a", "pass")
        await node.settle()
        log = WalletEventLog(wallets)
        invoices = InvoiceRoom(wallets, cast(Any, NoVotes()), SystemClock())
        await invoices.make(wallet="a")
        # From the beginning, as long as nothing is forgotten.
        async with log.open("a", 0) as entries:
            assert [entry.sequence for entry in await anext(entries)] == [1]
        for _ in range(3):
            await invoices.make(wallet="a")
        assert wallets.last_event("a") == 4
        async with log.open("a", 2) as entries:
            assert [entry.sequence for entry in await anext(entries)] == [3, 4]
        with pytest.raises(EventsGoneError) as gone:
            async with log.open("a", 1):
                pass
        assert (gone.value.oldest, gone.value.last) == (3, 4)


def files(home: Path) -> list[Path]:
    """Return what keeps what a wallet knows, as SQLite reads it after a crash."""
    return [path for path in home.glob("a.db*") if path.suffix != ".db-shm"]


class NoVotes:
    """Knows of no confirmations."""

    async def confirmations(self, *_: object) -> dict[int, int]:
        return {}


async def test_a_number_of_another_log_is_refused(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        wallets = node.wallets
        history = HistoryRoom(wallets, node.chain.queries)
        words = await wallets.create("a", "pass")
        await node.mine(2, "a")
        await node.settle()
        seen = await history.history_since(0, "a")
        assert seen.next == 2
        await node.mine(2, "a")
        await node.settle()
        assert len((await history.history_since(seen.next, "a", log=seen.log)).entries) == 2
        await wallets.delete("a", "a")
        await node.mine(3)
        await wallets.create("a", "pass", mnemonic=words)
        await node.settle()
        assert wallets.last_event("a") > seen.next
        with pytest.raises(EventsForgottenError, match="is another one than that of entry 2"):
            await history.history_since(seen.next, "a", log=seen.log)
        with pytest.raises(EventsGoneError):
            async with WalletEventLog(wallets).open("a", seen.next, seen.log):
                pass
        anew = await history.history_since(0, "a")
        assert (len(anew.entries), anew.log != seen.log) == (4, True)
        assert (await history.history_since(anew.next, "a", log=anew.log)).entries == []
        async with WalletEventLog(wallets).open("a", 0, anew.log) as entries:
            assert len(await anext(entries)) == 4


async def test_a_wallet_that_is_followed_no_more_tells_nothing_that_may_be_old(
    tmp_path: Path,
) -> None:
    async with wallet_node(tmp_path).running() as node:
        wallets = node.wallets
        await wallets.create("a", "pass")
        await node.mine(3, "a")
        queries = node.chain.queries
        invoices = InvoiceRoom(wallets, queries, node.clock)
        history, room = HistoryRoom(wallets, queries), WalletRoom(wallets, queries)
        contracts, keeping = ContractRoom(wallets), KeepingRoom(wallets)
        party = wallets.wallet("a").address()
        lock = (await contracts.htlc_create(party, party, 500, "a")).lock
        made = await invoices.make(wallet="a", seconds=60)
        await node.settle()
        (mined, *_) = await history.history("a")
        before = wallets.last_event("a")
        wallets._give_up(wallets._open["a"], StoreDamagedError("a bit has flipped"))
        asked: dict[str, Callable[[], Awaitable[object]]] = {
            "balance": lambda: room.balance("a"),
            "coins": lambda: room.coins("a"),
            "history": lambda: history.history("a"),
            "mined": lambda: history.mined("a"),
            "history_since": lambda: history.history_since(0, "a"),
            "transfer": lambda: history.transfer(mined.id, "a"),
            "invoice": lambda: invoices.make(wallet="a"),
            "invoices": lambda: invoices.list_("a"),
            "get_invoice": lambda: invoices.get(made.id, "a"),
            "cancel_invoice": lambda: invoices.cancel(made.id, "a"),
            "contracts": lambda: contracts.contracts("a"),
            "contract_info": lambda: contracts.contract_info(lock, "a"),
            "contract_history": lambda: contracts.contract_history(lock, "a"),
            "accounts": lambda: keeping.accounts("a"),
            "receipt": lambda: wallets.receipt("a", bytes(mined.id)),
            "reserve": lambda: wallets.prove_reserve("a", 1, b""),
        }
        answered = []
        for name, ask in asked.items():
            try:
                await ask()
            except StoreDamagedError:
                continue
            answered.append(name)
        assert answered == []
        # nothing expires by a chain that is not read; and what repairs it goes on
        await trio.sleep(3_600)
        await wallets._changed(wallets._open["a"], lambda _: None)
        assert wallets.last_event("a") == before
        assert (await room.address("a")).text
        assert await wallets.backup("a", tmp_path / "a.backup")
        (listed,) = await wallets.wallets()
        assert (listed.failure, listed.info is None) == ("a bit has flipped", False)
        await wallets.rescan("a")
        await node.settle()
        assert (await invoices.get(made.id, "a")).status == "expired"
        assert int((await room.balance("a")).total) > 0
