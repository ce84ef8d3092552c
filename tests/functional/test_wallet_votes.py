"""Confirmations of what a wallet shows while the chain is reorganised; in virtual time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.methods.invoice import InvoiceRoom
from unchained.node.rpc.methods.wallet import WalletRoom
from unchained.node.rpc.methods.wallet_history import HistoryRoom
from unchained.node.wallet.invoices import invoice_request
from unchained.node.wallet.records import Invoice, InvoiceStatus, Outgoing, Payee

UNC = 10**8


class Paid(msgspec.Struct):
    """A node whose wallet `bob` was paid an invoice by `alice`, and another one whose longer chain
    does not have the payment."""

    node: WalletNode
    other: WalletNode
    invoice: Invoice
    payment: Outgoing

    async def standing(self) -> tuple[InvoiceStatus, bool]:
        """Return how the invoice stands, and whether it is confirmed."""
        found = await self.node.wallets.change(
            "bob", lambda bob: bob.invoices.get(self.invoice.tag)
        )
        return found.status, found.confirmed

    async def reorganise(self) -> None:
        """Let the node take the other chain, and wait for nothing else."""
        for package in self.other.mined:
            await self.node.take(package)


@asynccontextmanager
async def paid(directory: Path) -> AsyncIterator[Paid]:
    for name in ("one", "two"):
        (directory / name).mkdir()
    async with (
        wallet_node(directory / "one").running() as node,
        wallet_node(directory / "two").running() as other,
    ):
        await node.wallets.create("alice", "pass")
        await node.wallets.unlock("alice", "pass", 86_400)
        await node.wallets.create("bob", "pass")
        await node.mine(5, "alice")
        await other.hear(node.mined)
        now_ms = node.clock.now_ms()
        invoice = await node.wallets.change(
            "bob", lambda bob: bob.invoices.add(now_ms, amount=UNC, confirmations=3)
        )
        to = invoice_request(invoice, node.wallets.wallet("bob").account(), REG).payee
        payment = await node.wallets.send("alice", [Payee(to, UNC, b"")])
        await node.mine(1)
        await other.mine(4)
        yield Paid(node, other, invoice, payment)


async def test_a_payment_is_not_confirmed_by_the_votes_of_another_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with paid(tmp_path) as scene:
        assert await scene.standing() == (InvoiceStatus.PAID, False)
        asked = WalletLink.confirmations

        async def overtaken(
            link: WalletLink, last: CoinId, heights: Collection[int]
        ) -> dict[int, int]:
            # the chain is reorganised while the wallets wait for the answer
            monkeypatch.undo()
            await scene.reorganise()
            return dict(await asked(link, last, heights))

        monkeypatch.setattr(WalletLink, "confirmations", overtaken)
        scene.node.wallets._wake.set()
        await scene.node.settle()
        assert await scene.standing() == (InvoiceStatus.OPEN, False)
        events = await scene.node.wallets.call("bob", lambda bob: bob.events.since(0, 100))
        assert "invoice.confirmed" not in [event.change.name for event in events]


async def test_an_invoice_tells_which_part_of_what_it_received_is_confirmed(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("alice", "pass")
        await node.wallets.unlock("alice", "pass", 86_400)
        await node.wallets.create("bob", "pass")
        await node.mine(8, "alice")
        room = InvoiceRoom(node.wallets, node.chain.queries, node.clock)
        some = await room.make(Amount(UNC // 10), "bob", confirmations=3)
        any_ = await room.make(None, "bob", confirmations=3)
        for value in (UNC // 10, UNC):
            for invoice in (some, any_):
                await node.wallets.send("alice", [Payee(invoice.text, value, b"")])
            await node.mine(1)
            if value != UNC:
                await node.mine(4)
                await node.settle()
        told = {}
        for invoice in (some, any_):
            found = await room.get(invoice.id, "bob")
            told[invoice.id] = (found.confirmed, found.confirmations, found.anchors)
            assert (found.received, found.received_confirmed) == (UNC * 11 // 10, UNC // 10)
        # all that came without an amount is asked for, and the newest of it has no votes
        assert told == {some.id: (True, 5, 6), any_.id: (False, 0, 1)}
        await node.mine(4)
        await node.settle()
        for invoice in (some, any_):
            found = await room.get(invoice.id, "bob")
            assert (found.confirmed, found.received_confirmed) == (True, found.received)


class Overtaken:
    """Tells confirmations once the chain has been reorganised."""

    def __init__(self, scene: Paid) -> None:
        self._scene = scene

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> dict[int, int]:
        await self._scene.reorganise()
        return await self._scene.node.chain.queries.confirmations(last, heights)


@pytest.mark.parametrize("way", ["coins", "history", "history_since", "transfer", "invoice"])
async def test_what_was_undone_while_it_was_looked_at_has_no_confirmations(
    tmp_path: Path, way: str
) -> None:
    async with paid(tmp_path) as scene:
        wallets, late = scene.node.wallets, Overtaken(scene)
        txid = Hash(scene.payment.txid)
        history = HistoryRoom(wallets, late)
        shown = {
            "coins": lambda: WalletRoom(wallets, late).coins("bob"),
            "history": lambda: history.history("bob"),
            "history_since": lambda: history.history_since(0, "bob"),
            "transfer": lambda: history.transfer(txid, "bob"),
            "invoice": lambda: InvoiceRoom(wallets, late, scene.node.clock).get(
                scene.invoice.tag.hex(), "bob"
            ),
        }
        told = repr(await shown[way]())
        assert set(re.findall(r"\bconfirmations=(\d+)", told)) == {"0"}


async def test_votes_are_those_of_what_both_chains_have(tmp_path: Path) -> None:
    async with paid(tmp_path) as scene:
        queries = scene.node.chain.queries
        left = scene.node.chain.status.value.tip
        heights = range(8)
        before = await queries.confirmations(left, heights)
        assert before == {height: 6 - height for height in range(7)}
        assert await queries.confirmations(CoinId(bytes(32)), heights) == {}
        await scene.reorganise()
        after = await queries.confirmations(left, heights)
        assert sorted(after) == [0, 1, 2, 3, 4, 5]
        assert after[5] > before[5]
