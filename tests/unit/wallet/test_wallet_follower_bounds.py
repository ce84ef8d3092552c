"""Open wallets that follow the chain: when an invoice is confirmed or expires, when a transfer is
sent again, and whom a passphrase lets sign."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.wallet.errors import WalletLockedError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.invoices import invoice_request
from unchained.node.wallet.records import Invoice, InvoiceStatus, Payee
from unchained.node.wallet.wallet import Wallet

UNC = 10**8


async def an_invoice(
    node: WalletNode, *, confirmations: int = 1, expires_ms: int | None = None
) -> Invoice:
    now_ms = node.clock.now_ms()

    def add(wallet: Wallet) -> Invoice:
        return wallet.invoices.add(now_ms, confirmations=confirmations, expires_ms=expires_ms)

    return await node.wallets.change("a", add)


async def test_an_invoice_is_confirmed_by_as_many_votes_as_it_asks_for(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        for name in ("a", "b"):
            await node.wallets.create(name, "pass")
        await node.wallets.unlock("b", "pass", 86_400)
        await node.mine(1, "b")
        a = node.wallets.wallet("a")
        invoice = await an_invoice(node, confirmations=2)
        to = invoice_request(invoice, a.account(), node.network).payee
        await node.wallets.send("b", [Payee(to, UNC // 8, b"")], Fee(1))
        found = []
        for _ in range(3):
            await node.mine()
            found.append(a.invoices.get(invoice.tag))
        assert [one.status for one in found] == [InvoiceStatus.PAID] * 3
        # Each anchor above is a vote.
        assert [one.confirmed for one in found] == [False, False, True]


async def test_an_invoice_expires_in_time_though_nothing_else_happens(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        await node.mine()
        invoices = node.wallets.wallet("a").invoices
        invoice = await an_invoice(node, expires_ms=node.clock.now_ms() + 5_000)
        await trio.sleep(4.9)
        await node.settle()
        assert invoices.get(invoice.tag).status is InvoiceStatus.OPEN
        await trio.sleep(0.2)
        await node.settle()
        assert invoices.get(invoice.tag).status is InvoiceStatus.EXPIRED


async def test_what_the_mempool_does_not_have_is_sent_again_after_a_reorganisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [tmp_path / "one", tmp_path / "other"]
    for home in homes:
        home.mkdir()
    one, other = map(wallet_node, homes)
    async with one.running() as node, other.running() as rival:
        await node.wallets.create("a", "pass")
        await node.wallets.unlock("a", "pass", 86_400)
        await node.mine(1, "a")
        await rival.hear(node.mined)
        sent: list[bytes] = []

        async def submit(raw: bytes) -> bool:
            sent.append(raw)
            return False

        monkeypatch.setattr(node.wallets._link, "submit", submit)
        a = node.wallets.wallet("a")
        prepared = a.spender.pay([Payee(a.address(), UNC // 8, b"")], Fee(1))
        kept = a.record(a.finish(prepared), 0, change=prepared.change)
        await node.mine()
        assert sent == []
        # Nothing that is undone is the wallet's.
        await rival.mine(2)
        await node.hear(rival.mined)
        assert node.chain.status.value.height == 3
        assert sent == [kept.raw]


@pytest.mark.parametrize("opens_again", [False, True])
async def test_a_wallet_that_is_closed_while_a_passphrase_is_stretched_stays_locked(
    opens_again: bool, tmp_path: Path
) -> None:
    async with wallet_node(tmp_path).running() as node:
        wallets = node.wallets
        await wallets.create("a", "pass")
        await node.settle()
        closed = wallets.wallet("a")
        refused = []

        async def unlock() -> None:
            with pytest.raises(WalletLockedError):
                await wallets.unlock("a", "pass", 86_400)
            refused.append(True)

        async with trio.open_nursery() as nursery, wallets._stretching:
            nursery.start_soon(unlock)
            await wait_all_tasks_blocked()
            await wallets.close("a")
            if opens_again:
                await wallets.open("a")
        assert refused == [True]
        assert closed.locked
        if opens_again:
            assert wallets.wallet("a").locked
            await wallets.unlock("a", "pass", 86_400)
            assert not wallets.wallet("a").locked
