"""What a node's wallets tell of: invoices as they are paid, confirmed and expire, and the log of
it; in virtual time."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.wallet import invoices
from unchained.node.wallet.errors import EventsForgottenError, NoSuchWalletError
from unchained.node.wallet.invoices import invoice_request
from unchained.node.wallet.records import Invoice, InvoiceStatus, Payee, WalletEvent
from unchained.node.wallet.wallet import Wallet

UNC = 10**8


async def wallet(node: WalletNode, name: str, coins: int = 0) -> str:
    words = await node.wallets.create(name, "pass")
    await node.wallets.unlock(name, "pass", 86_400)
    await node.mine(coins, name)
    return words


async def ask(node: WalletNode, name: str, seconds: int | None, confirmations: int = 1) -> Invoice:
    now_ms = node.clock.now_ms()

    def work(opened: Wallet) -> Invoice:
        return opened.invoices.add(
            now_ms,
            amount=UNC,
            expires_ms=None if seconds is None else now_ms + 1_000 * seconds,
            confirmations=confirmations,
        )

    return await node.wallets.change(name, work)


async def pay(node: WalletNode, name: str, shop: str, invoice: Invoice) -> None:
    request = invoice_request(invoice, node.wallets.wallet(shop).account(), node.network)
    await node.wallets.send(name, [Payee(request.payee, UNC, b"")])


def log(node: WalletNode, name: str, since: int = 0) -> list[WalletEvent]:
    return node.wallets.wallet(name).events.since(since, 1_000)


def names(node: WalletNode, name: str, since: int = 0) -> list[str]:
    return [event.change.name for event in log(node, name, since)]


async def test_an_invoice_is_paid_confirmed_and_told(tmp_path: Path) -> None:
    node = wallet_node(tmp_path)
    async with node.running():
        await wallet(node, "a", 3)
        await wallet(node, "shop")
        invoice = await ask(node, "shop", None, confirmations=2)
        await pay(node, "a", "shop", invoice)
        await node.mine()
        assert names(node, "shop")[-1] == "invoice.paid"
        # each anchor on top is one vote here
        await node.mine(2)
        await node.settle()
        expected = ["invoice.open", "transfer.waiting", "invoice.open"]
        expected += ["transfer.included", "invoice.paid", "invoice.confirmed"]
        assert names(node, "shop") == expected
        await node.mine(2)
    async with node.running():
        await node.settle()
        assert names(node, "shop") == expected
        found = node.wallets.wallet("shop").invoices.get(invoice.tag)
        assert (found.status, found.confirmed) == (InvoiceStatus.PAID, True)


async def test_invoices_that_ask_for_too_many_votes_hold_no_others_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoices, "UNCONFIRMED_READ", 1)
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 9)
        await wallet(node, "shop")
        asked = [await ask(node, "shop", None, count) for count in (10**6, 1, 10**6, 1, 10**6, 1)]
        for invoice in asked:
            await pay(node, "a", "shop", invoice)
        await node.mine(4)
        book = node.wallets.wallet("shop").invoices
        assert [book.get(it.tag).confirmed for it in asked] == 3 * [False, True]


async def test_an_invoice_expires_by_itself(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "shop")
        invoice = await ask(node, "shop", 60)
        await trio.sleep(59.9)
        assert node.wallets.wallet("shop").invoices.get(invoice.tag).status is InvoiceStatus.OPEN
        await trio.sleep(0.2)
        assert names(node, "shop") == ["invoice.open", "invoice.expired"]
        assert log(node, "shop")[1].time_ms == (invoice.expires_ms or 0) + 1


async def test_an_invoice_that_expired_while_the_node_was_down_is_told_at_once(
    tmp_path: Path,
) -> None:
    node = wallet_node(tmp_path)
    async with node.running():
        await wallet(node, "shop")
        await ask(node, "shop", 1)
        assert names(node, "shop") == ["invoice.open"]
    await trio.sleep(5)
    node.started_at_ms += 10_000
    async with node.running():
        await node.settle()
        assert names(node, "shop") == ["invoice.open", "invoice.expired"]


async def test_a_follower_is_given_every_entry_once_until_the_wallet_is_closed(
    tmp_path: Path,
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 2)
        seen: list[int] = []

        async def follow() -> None:
            async with aclosing(node.wallets.events("a", 1)) as parts:
                async for part in parts:
                    seen.extend(event.sequence for event in part)
                    if len(seen) == 3:
                        return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await node.settle()
            assert seen == [2]
            await node.mine(2, "a")
        assert seen == [2, 3, 4]
        ended = trio.Event()

        async def follow_to_the_end() -> None:
            async with aclosing(node.wallets.events("a", 0)) as parts:
                async for _ in parts:
                    pass
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow_to_the_end)
            await node.settle()
            await node.wallets.close("a")
        assert ended.is_set()
        with pytest.raises(NoSuchWalletError):
            await anext(node.wallets.events("none", 0))
        await node.wallets.open("a")
        with pytest.raises(EventsForgottenError):
            await anext(node.wallets.events("a", 99))
