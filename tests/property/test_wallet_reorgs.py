"""Random wallets, payments, invoices and reorganisations: every grain has exactly one owner, the
history adds up to the balance and the invoices to what the chain includes, always."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.errors import TransferError
from unchained.node.consensus.policy import PolicyError
from unchained.node.crypto.addresses import decode_paycode
from unchained.node.wallet.errors import WalletError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.invoices import invoice_request, status_of
from unchained.node.wallet.keystore import SpendSecret
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import (
    HistoryChange,
    HistoryEntry,
    HistoryStatus,
    Invoice,
    InvoiceChange,
    Payee,
)
from unchained.storage import schema

UNC = 10**8
STEPS = 100


ACTS = ["mine"] * 3 + ["pay"] * 4
ACTS += ["gather", "bump", "abandon", "fork", "mine_rival", "mine_rival", "adopt", "sync"]


class World:
    """Wallets on one chain, at times a rival of that chain, and a die."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.chain = WalletChain(seed=seed)
        self.purses = [Purse(self.chain, cheap_wallet(f"w{at}")) for at in range(3)]
        self.rival: WalletChain | None = None
        self.forks = seed * 1_000
        self.reorganisations = self.sent = 0
        self.invoices: list[tuple[Purse, Invoice]] = []
        self.paid: dict[bytes, list[tuple[bytes, int]]] = {}
        """By txid, which tags a transfer pays and how much."""

    def step(self) -> str:
        act = self.rng.choice(ACTS)
        getattr(self, act)()
        return act

    def some(self) -> Purse:
        return self.rng.choice(self.purses)

    def mine_on(self, chain: WalletChain) -> None:
        chain.mine(*(self.some().mine_to for _ in range(self.rng.randrange(1, 4))))

    def mine(self) -> None:
        self.mine_on(self.chain)

    def mine_rival(self) -> None:
        if self.rival is not None:
            self.mine_on(self.rival)

    def fork(self) -> None:
        if self.rival is None and self.chain.height:
            self.forks += 1
            depth = self.rng.randrange(1, min(self.chain.height, 6) + 1)
            self.rival = self.chain.fork(self.chain.height - depth, self.forks)
            self.mine_rival()

    def adopt(self) -> None:
        if self.rival is not None:
            before = self.chain.core.tip.id
            while self.rival.height <= self.chain.height:
                self.mine_rival()
            self.chain.adopt(self.rival)
            self.reorganisations += self.chain.core.tip.id != before
            self.rival = None

    def sync(self) -> None:
        self.some().sync()

    def catch_up(self, purse: Purse) -> None:
        """Do as a node's follower does: read the chain, and send again what the mempool lacks."""
        purse.sync()
        for outgoing in purse.wallet.store.unheard():
            with contextlib.suppress(TransferError, PolicyError):
                self.chain.submit(outgoing.raw)
        purse.sync()

    def pay(self) -> None:
        purse = self.some()
        self.catch_up(purse)
        payees = [
            Payee(self.someone(), self.rng.randrange(1_000, 2 * UNC), b"")
            for _ in range(self.rng.choice([1, 1, 1, 4]))
        ]
        self.send(purse, lambda: [purse.wallet.spender.pay(payees, self.fee())])

    def someone(self) -> str:
        """Return an address, a paycode, or the paycode of an invoice."""
        kind = self.rng.choice(["address", "paycode", "invoice", "old invoice"])
        purse = self.some()
        if kind == "address":
            return purse.wallet.address()
        if kind == "paycode":
            return purse.wallet.paycode()
        if kind == "invoice" or not self.invoices:
            made = purse.wallet.invoices.add(
                self.chain.now_ms,
                amount=self.rng.choice([None, UNC]),
                expires_ms=self.rng.choice([None, self.chain.now_ms + 1_000]),
            )
            self.invoices.append((purse, made))
        purse, made = self.rng.choice(self.invoices)
        return invoice_request(made, purse.wallet.account(), purse.wallet.network).payee

    def fee(self) -> Fee:
        return Fee(self.rng.randrange(1, 5))

    def gather(self) -> None:
        purse = self.some()
        self.catch_up(purse)
        self.send(purse, lambda: purse.wallet.spender.consolidate(self.fee()))

    def bump(self) -> None:
        purse = self.some()
        purse.sync()
        waiting = purse.wallet.store.waiting_outgoing()
        if waiting:
            txid = self.rng.choice(waiting).txid
            self.send(purse, lambda: [purse.wallet.spender.bump(txid, Fee(20))])

    def abandon(self) -> None:
        purse = self.some()
        waiting = purse.wallet.store.waiting_outgoing()
        if waiting:
            purse.wallet.abandon(self.rng.choice(waiting).txid)

    def send(self, purse: Purse, make: Callable[[], list[Prepared]]) -> None:
        # what cannot be paid, or not be relayed, is said so, and nothing has happened
        with contextlib.suppress(WalletError, PolicyError):
            for prepared in make():
                sent = purse.send(prepared)
                self.sent += 1
                self.paid[sent.txid] = [
                    (decode_paycode(purse.wallet.network, payee.payee).tag, payee.value)
                    for payee in prepared.payees
                    if len(payee.payee) > 100
                ]

    def check(self) -> None:
        """Let every wallet catch up, and count."""
        for purse in self.purses:
            assert purse.sync().caught_up
            purse.wallet.note_changes(self.chain.now_ms)
        supply = self.chain.core.ledger.supply
        assert sum(purse.balance.on_chain for purse in self.purses) == supply
        for purse in self.purses:
            self.check_history(purse)
        self.check_invoices()

    def check_history(self, purse: Purse) -> None:
        """The history adds up to the balance, and the log to the history."""
        whole: list[HistoryEntry] = []
        while page := purse.wallet.history(7, after=whole[-1].key if whole else None):
            whole += page
        included = [entry for entry in whole if entry.status is HistoryStatus.INCLUDED]
        assert sum(entry.net for entry in included) == purse.balance.on_chain
        told: dict[bytes, HistoryChange] = {}
        log = purse.wallet.events.since(0, 100_000)
        assert [event.sequence for event in log] == list(range(1, len(log) + 1))
        for event in log:
            if isinstance(event.change, HistoryChange):
                told[event.change.key] = event.change
        assert {
            (key, change.status, change.height, change.received - change.sent)
            for key, change in told.items()
            if change.status <= HistoryStatus.INCLUDED
        } == {(entry.key, entry.status, entry.height, entry.net) for entry in whole}

    def check_invoices(self) -> None:
        """What an invoice is said to have received is what the chain's transfers pay it."""
        received: dict[bytes, int] = {}
        with self.chain.snapshot() as view:
            for txid, payments in self.paid.items():
                if schema.TXID.get(view, txid) is not None:
                    for tag, value in payments:
                        received[tag] = received.get(tag, 0) + value
        for purse, made in self.invoices:
            invoice = purse.wallet.invoices.get(made.tag)
            assert invoice.received == received.get(made.tag, 0)
            payments = purse.wallet.invoices.payments(made.tag)
            assert invoice.status is status_of(invoice, payments, self.chain.now_ms)
            log = purse.wallet.events.since(0, 100_000)
            last = [event.change for event in log if getattr(event.change, "tag", b"") == made.tag]
            assert isinstance(last[-1], InvoiceChange)
            assert (last[-1].status, last[-1].received) == (invoice.status, invoice.received)


@pytest.mark.parametrize("seed", range(12))
def test_the_balances_are_the_supply(seed: int) -> None:
    world = World(seed)
    acts = []
    for at in range(STEPS):
        acts.append(world.step())
        if at % 10 == 9:
            world.check()
    world.adopt()
    world.mine()
    world.check()
    for purse in world.purses:
        words = purse.wallet.open_secret("pass").mnemonic()
        restored = Purse(world.chain, cheap_wallet(secret=SpendSecret.of(words)))
        restored.sync()
        assert restored.balance.on_chain == purse.balance.on_chain, acts
        assert {
            coin.coin_id: (coin.value, coin.height, coin.spent_by)
            for coin in restored.wallet.store.coins(spent=True)
            if coin.height is not None
        } == {
            coin.coin_id: (coin.value, coin.height, coin.spent_by)
            for coin in purse.wallet.store.coins(spent=True)
            if coin.height is not None
        }


def test_the_worlds_pay_and_reorganise() -> None:
    worlds = [World(seed) for seed in range(4)]
    for world in worlds:
        for _ in range(STEPS):
            world.step()
    assert sum(world.reorganisations for world in worlds) >= 2
    assert sum(world.sent for world in worlds) >= 50
    standing = [purse.wallet.invoices.get(made.tag) for w in worlds for purse, made in w.invoices]
    assert len({invoice.status for invoice in standing}) >= 4
