"""Who is told of what, and from where on after a restart; in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import InlineRunner
from unchained.node.notify.notice import Notice, Subject
from unchained.node.notify.notifier import Notifier

EVERYTHING: Sequence[Subject] = ("wallet", "invoice", "anchor", "reorg")


class Heard:
    """A target that keeps what it is told, once it may."""

    name = "heard"

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.open = trio.Event()
        self.open.set()

    async def run(self) -> None:
        await trio.sleep_forever()

    async def deliver(self, notice: Notice) -> bool:
        await self.open.wait()
        self.notices.append(notice)
        return True

    def statistics(self) -> object:
        return len(self.notices)

    def told(self, subject: str) -> list[str]:
        return [notice.event for notice in self.notices if notice.subject == subject]


@asynccontextmanager
async def telling(
    node: WalletNode,
    target: Heard,
    about: Sequence[Subject] = EVERYTHING,
    most_behind: int = 100,
    synced: bool = True,
) -> AsyncIterator[Notifier]:
    notifier = Notifier(
        [target],
        about,
        most_behind=most_behind,
        wallets=node.wallets,
        chain=node.chain,
        store=node.store,
        synced=Watch(synced),
        clock=node.clock,
        runner=InlineRunner(),
        log=node.captured.logger(),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(notifier.run)
        await node.settle()
        yield notifier
        await node.settle()
        nursery.cancel_scope.cancel()


async def test_tells_of_wallets_anchors_and_reorganisations(tmp_path: Path) -> None:
    here, there = wallet_node(tmp_path / "here"), wallet_node(tmp_path / "there")
    async with here.running(), there.running():
        heard = Heard()
        async with telling(here, heard):
            await here.wallets.create("a", "pass")
            await here.mine(1, "a")
            assert heard.told("wallet") == ["coin.mined"]
            assert heard.told("anchor") == ["anchor.connected"]
            await there.mine(2)
            await here.hear(there.mined)
            assert heard.told("reorg") == ["chain.reorg"]
            assert heard.told("wallet") == ["coin.mined", "coin.undone"]
            assert len(heard.told("anchor")) == 3
        assert len({notice.id for notice in heard.notices}) == len(heard.notices)


async def test_a_wallet_made_or_restored_anew_repeats_no_id(tmp_path: Path) -> None:
    async with wallet_node(tmp_path / "wallets").running() as node:
        heard = Heard()
        wallets = node.wallets
        async with telling(node, heard):
            await wallets.create("a", "pass")
            await node.mine(1, "a")
            await wallets.backup("a", tmp_path / "a.backup")
            await node.mine(1, "a")
            await wallets.delete("a", "a")
            await wallets.restore_backup(tmp_path / "a.backup", "pass")
            await node.mine(1, "a")
            await wallets.delete("a", "a")
            await wallets.create("a", "pass")
            await node.mine(1, "a")
        numbers = [notice.sequence for notice in heard.notices if notice.wallet]
        assert len(set(numbers)) < len(numbers)
        assert len({notice.id for notice in heard.notices}) == len(heard.notices)


async def test_a_renamed_wallets_log_goes_on_under_its_ids(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        log = node.wallets.wallet("a").events.log_id
        await node.wallets.rename("a", "b")
        assert node.wallets.wallet("b").events.log_id == log


async def test_goes_on_after_a_restart_where_it_was(tmp_path: Path) -> None:
    node = wallet_node(tmp_path)
    heard = Heard()
    async with node.running():
        await node.wallets.create("a", "pass")
        await node.mine(2, "a")
        async with telling(node, heard, ["wallet"]):
            # what was before is no news
            assert heard.notices == []
            await node.mine(1, "a")
        assert [notice.sequence for notice in heard.notices] == [3]
        await node.mine(2, "a")
    async with node.running():
        async with telling(node, heard, ["wallet"]):
            pass
        assert [notice.sequence for notice in heard.notices] == [3, 4, 5]


async def test_what_could_not_be_told_before_the_end_is_told_after_it(tmp_path: Path) -> None:
    node = wallet_node(tmp_path)
    heard = Heard()
    async with node.running():
        await node.wallets.create("a", "pass")
        async with telling(node, heard, ["wallet"]):
            heard.open = trio.Event()
            await node.mine(1, "a")
    assert heard.notices == []
    heard.open.set()
    async with node.running():
        async with telling(node, heard, ["wallet"]):
            pass
        assert [notice.sequence for notice in heard.notices] == [1]


async def test_what_a_restored_wallet_finds_is_no_news(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        words = await node.wallets.create("a", "pass")
        await node.mine(5, "a")
        heard = Heard()
        async with telling(node, heard, ["wallet"]):
            await node.wallets.create("again", "pass", mnemonic=words)
            await node.settle()
            assert heard.notices == []
            await node.mine(1, "a")
        assert {notice.wallet for notice in heard.notices} == {"a", "again"}


async def test_a_slow_target_holds_nothing_up_and_loses_the_oldest(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        heard = Heard()
        async with telling(node, heard, ["wallet"], most_behind=3) as notifier:
            heard.open = trio.Event()
            await node.mine(8, "a")
            assert heard.notices == []
            heard.open.set()
            await node.settle()
            sequences = [notice.sequence for notice in heard.notices]
            assert sequences[0] == 1
            assert sequences[-3:] == [6, 7, 8]
            assert notifier.statistics().dropped == 8 - len(sequences) > 0
        assert any("notify.dropped" in line for line in node.captured.lines)


async def test_while_the_chain_is_behind_anchors_are_no_news(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        heard = Heard()
        async with telling(node, heard, synced=False):
            await node.mine(3)
        assert heard.notices == []
