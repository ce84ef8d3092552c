"""Wallets on a running chain: sending, waiting, locking, restarting, swapping; in virtual time."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import msgspec
import pytest
import trio
import trio.testing

from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.node.base.fanout import Lost
from unchained.node.base.runner import InlineRunner, Runner, ThreadRunner
from unchained.node.chain.results import Package
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.primitives.transfer import Transfer
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.rpc.core.values import Secret
from unchained.node.rpc.methods.wallet import WalletRoom
from unchained.node.wallet import plan, scanner, spender
from unchained.node.wallet.contracts import Contract, hash_time_lock
from unchained.node.wallet.errors import (
    BadBirthError,
    FeeAboveMaxError,
    InsufficientFundsError,
    NoSuchTransferError,
    NoSuchWalletError,
    NothingKnownError,
    ReceiptError,
    RequestReusedError,
    SigningError,
    StillWaitingError,
    StoreDamagedError,
    TransferRefusedError,
    WalletClosedError,
    WalletExistsError,
    WalletLockedError,
    WatchOnlyError,
    WrongPassphraseError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import Keystore, SpendSecret
from unchained.node.wallet.link import ChainLink, ChainTip, WaitingBids
from unchained.node.wallet.orders import PaymentOrder
from unchained.node.wallet.records import OutgoingState, Payee
from unchained.node.wallet.resealing import NewPassphrase, OneMoreAccount
from unchained.node.wallet.unsigned import Unsigned
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_follower import REBROADCAST_S, WalletChange
from unchained.storage.kv import Snapshot
from unchained.storage.memory import MemoryStore
from unchained.storage.open import open_store, prepare

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
UNC = 10**8
OTHER = msgspec.structs.replace(
    REG, name="other", chain_id=0x554E4399, address_prefix="ounc", maturity=2
)
"""A second network of this kind."""


async def wallet(node: WalletNode, name: str, coins: int = 0) -> str:
    """Make a wallet, unlock it, and let it mine; return its mnemonic."""
    words = await node.wallets.create(name, "pass")
    await node.wallets.unlock(name, "pass", 86_400)
    await node.mine(coins, name)
    return words


async def balance(node: WalletNode, name: str) -> int:
    await node.settle()
    return (await node.wallets.call(name, Wallet.balance)).on_chain


class SlowRunner(InlineRunner):
    """Does work that takes time while it `is_slow`."""

    is_slow = False

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        if self.is_slow:
            await trio.sleep(1)
        return await super().run(work, *args)


@asynccontextmanager
async def one_chain(
    tmp_path: Path, coins: int, runner: Runner | None = None
) -> AsyncIterator[tuple[WalletNode, WalletNode, str]]:
    """Run two nodes with one chain, on which wallet a of the first has mined coins; give them and
    its mnemonic. `runner` does the work of the first one's wallets."""
    here = WalletNode(REG, tmp_path / "here", MemoryStore(), runner)
    there = wallet_node(tmp_path / "there")
    async with here.running(), there.running():
        words = await wallet(here, "a", coins)
        await there.hear(here.mined)
        yield here, there, words


async def test_a_payment_from_wallet_to_wallet(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await wallet(node, "b")
        with node.wallets.changes.subscribe() as changes:
            to = node.wallets.wallet("b").paycode()
            sent = await node.wallets.send("a", [Payee(to, UNC, b"hello")])
            seen = {}
            while len(seen) < 2:
                change = await changes.receive()
                assert isinstance(change, WalletChange)
                seen[change.wallet] = change.touched
            assert all(sent.txid in touched for touched in seen.values())
        await node.mine(3)
        assert await balance(node, "b") == UNC
        outgoing = await node.wallets.call("a", lambda w: w.store.outgoing(sent.txid))
        assert outgoing.height == 4
        # the anchor at height 4 and those on top of it: two are bound to it or above
        statistics = node.wallets.statistics()
        assert (statistics.open, statistics.behind, statistics.sent) == (2, 0, 1)
        with pytest.raises(ReceiptError):
            await node.wallets.receipt("a", bytes(32))
        assert await node.wallets.receipt("a", sent.txid)


async def test_unlocking_ends_by_itself(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        await node.mine(1, "a")
        pay = [Payee(node.wallets.wallet("a").paycode(), UNC // 2, b"")]
        with pytest.raises(WalletLockedError):
            await node.wallets.send("a", pay)
        with pytest.raises(WrongPassphraseError):
            await node.wallets.unlock("a", "wrong", 60)
        await node.wallets.unlock("a", "pass", 60)
        await trio.sleep(59)
        assert not node.wallets.wallet("a").locked
        await trio.sleep(2)
        assert node.wallets.wallet("a").locked
        await node.wallets.unlock("a", "pass", 60)
        node.wallets.lock("a")
        with pytest.raises(WalletLockedError):
            await node.wallets.send("a", pay)


async def test_wallets_are_opened_again_with_the_node(tmp_path: Path) -> None:
    node = wallet_node(tmp_path)

    async with node.running():
        words = await wallet(node, "a", 2)
        await wallet(node, "b")
        with pytest.raises(WalletExistsError):
            await node.wallets.create("a", "pass")
        await node.wallets.close("b")
        with pytest.raises(WalletClosedError):
            node.wallets.wallet("b")
        with pytest.raises(NoSuchWalletError):
            await node.wallets.open("c")
        statuses = await node.wallets.wallets()
        assert [(s.name, s.info is None) for s in statuses] == [("a", False), ("b", True)]
    (tmp_path / "c.wallet").write_bytes(b"nonsense")
    async with node.running():
        await node.settle()
        assert any("wallet.unusable" in line for line in node.captured.lines)
        assert await balance(node, "a") == 2 * UNC
        assert node.wallets.wallet("a").locked
        await node.wallets.create("again", "other", mnemonic=words)
        assert await balance(node, "again") == 2 * UNC
        await node.wallets.rescan("again", 1)
        assert await balance(node, "again") == 2 * UNC
        await node.wallets.cancel_rescan("again")
        exported = node.wallets.wallet("a").export_watch()
        await node.wallets.import_watch("view", exported)
        assert await balance(node, "view") == 2 * UNC
        with pytest.raises(WatchOnlyError):
            await node.wallets.unlock("view", "", 60)


async def test_what_was_not_heard_is_sent_again(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        a = node.wallets.wallet("a")
        prepared = a.spender.pay([Payee(a.paycode(), UNC // 2, b"")], Fee(1))
        # noted, but the node went down before it was sent
        kept = a.record(a.finish(prepared), 0, change=prepared.change)
        await trio.sleep(REBROADCAST_S + 1)
        await node.mine()
        assert a.store.outgoing(kept.txid).height == 2
        assert node.wallets.statistics().rebroadcast == 1


async def test_what_a_reorganisation_lost_is_sent_again_at_once(tmp_path: Path) -> None:
    async with one_chain(tmp_path, 1) as (here, there, _):
        a = here.wallets.wallet("a")
        prepared = a.spender.pay([Payee(a.paycode(), UNC // 2, b"")], Fee(1))
        # the mempool does not have it, as if it had not taken it back
        kept = a.record(a.finish(prepared), 0, change=prepared.change)
        await here.mine()
        assert a.store.outgoing(kept.txid).height is None
        await there.mine(2)
        await here.hear(there.mined)
        assert here.chain.status.value.tip == there.chain.status.value.tip
        assert here.wallets.statistics().rebroadcast == 1
        await here.mine()
        assert a.store.outgoing(kept.txid).height == 4


async def test_a_refused_transfer_frees_its_coins(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        a = node.wallets.wallet("a")
        first = await node.wallets.send("a", [Payee(a.paycode(), UNC // 2, b"")])
        twin_words = a.open_secret("pass").mnemonic()
        await node.wallets.create("twin", "pass", mnemonic=twin_words)
        await node.wallets.unlock("twin", "pass", 600)
        await node.settle()
        twin = node.wallets.wallet("twin")
        twin.store.clear_waiting()
        with pytest.raises(TransferRefusedError) as caught:
            await node.wallets.send("twin", [Payee(a.paycode(), UNC // 4, b"")])
        assert caught.value.rule == "REPLACEMENT_TOO_CHEAP"
        assert twin.store.waiting_outgoing() == []
        bumped = await node.wallets.bump_fee("a", first.txid, Fee(5))
        await node.mine()
        assert a.store.outgoing(bumped.txid).height == 2


async def test_signers_hand_their_files_back(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        await node.wallets.import_watch("view", node.wallets.wallet("a").export_watch())
        await node.settle()
        view, signer = node.wallets.wallet("view"), node.wallets.wallet("a")
        prepared = view.spender.pay([Payee(signer.paycode(), UNC // 2, b"")], Fee(1))
        signed = signer.sign(prepared.unsigned)
        with pytest.raises(SigningError):
            await node.wallets.broadcast("view", [])
        with pytest.raises(SigningError):
            await node.wallets.broadcast("view", [prepared.unsigned.to_file()])
        sent = await node.wallets.broadcast("view", [prepared.unsigned.to_file(), signed.to_file()])
        await node.mine()
        assert view.store.outgoing(sent.txid).height == 2


async def test_sweeping_and_joining(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 4)
        await wallet(node, "b")
        await node.wallets.consolidate("a")
        await node.mine()
        assert len(node.wallets.wallet("a").store.coins()) == 1
        made = await node.wallets.sweep("a", node.wallets.wallet("b").paycode())
        assert (made.refused, made.left) == ((), 0)
        (sent,) = made.sent
        # the mempool would have it mined: its coins cannot be taken back
        with pytest.raises(StillWaitingError, match="bump"):
            await node.wallets.abandon("a", sent.txid)
        await node.mine()
        assert await balance(node, "a") == 0
        assert await balance(node, "b") == sent.payees[0].value


async def test_two_payments_at_once_do_not_take_the_same_coins(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 8)
        await wallet(node, "b")
        to = node.wallets.wallet("b").address()

        async def pay() -> None:
            await node.wallets.send("a", [Payee(to, UNC // 2, b"")])

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(pay)
        await node.mine()
        assert await balance(node, "b") == 3 * UNC


async def test_payments_at_once_spend_each_others_change(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 5)
        await wallet(node, "b")
        to = node.wallets.wallet("b").address()

        async def pay() -> None:
            await node.wallets.send("a", [Payee(to, UNC // 100, b"")])

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(pay)
        await node.mine()
        assert await balance(node, "b") == 20 * UNC // 100


async def test_what_is_asked_or_sent_right_after_an_anchor_knows_of_it(tmp_path: Path) -> None:
    runner = SlowRunner()
    async with one_chain(tmp_path, 1, runner) as (here, there, _):
        await here.mine(2, "a")
        await there.mine(3)
        a = here.wallets.wallet("a")
        # two anchors are as many as it has, and either may be chosen; three are more
        await here.hear(there.mined[:1])
        runner.is_slow = True
        for package in there.mined[1:]:
            await here.take(package)
        # two of its coins are gone now, and the wallet has not had the time to read that
        with pytest.raises(InsufficientFundsError):
            await here.wallets.send("a", [Payee(a.paycode(), 3 * UNC // 2, b"")], Fee(1))
        assert (await here.wallets.call("a", Wallet.balance)).on_chain == UNC
        sent = await here.wallets.send("a", [Payee(a.paycode(), UNC // 2, b"")])
        assert a.store.outgoing(sent.txid).state is OutgoingState.WAITING


async def test_what_a_sweep_has_chosen_nobody_else_spends(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 8)
        await wallet(node, "b")
        to = node.wallets.wallet("b").address()
        outcomes: list[object] = []

        async def sweep() -> None:
            outcomes.append(await node.wallets.sweep("a", to))

        async def pay() -> None:
            try:
                outcomes.append(await node.wallets.send("a", [Payee(to, UNC // 10, b"")]))
            except InsufficientFundsError as error:
                outcomes.append(error)

        async with trio.open_nursery() as nursery:
            for work in (pay, sweep, pay, pay):
                nursery.start_soon(work)
        await node.mine()
        history = await node.wallets.call("a", Wallet.history)
        sent = [entry for entry in history if entry.sent]
        assert all(entry.height is not None for entry in sent)
        assert await balance(node, "a") == sum(entry.received for entry in history) - sum(
            entry.sent for entry in history
        )


class Refuses:
    """A link of which the node takes only so many transfers."""

    def __init__(self, link: ChainLink, taken: int) -> None:
        self._link = link
        self._left = taken

    @property
    def network(self) -> Network:
        return self._link.network

    @property
    def tip(self) -> ChainTip:
        return self._link.tip

    async def wait_newer(self, next_event: int) -> ChainTip:
        return await self._link.wait_newer(next_event)

    def snapshot(self) -> Snapshot:
        return self._link.snapshot()

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        if not self._left:
            raise TransferRefusedError("MEMPOOL_FULL", "the mempool is full")
        self._left -= 1
        return await self._link.submit(transfer)

    def proven_transfer(self, wid: Wid) -> ProvenTransfer | None:
        return self._link.proven_transfer(wid)

    def prove_coin(self, view: Snapshot, coin_id: CoinId) -> CoinProof | None:
        return self._link.prove_coin(view, coin_id)

    async def waiting(self, txids: Collection[bytes]) -> WaitingBids:
        return await self._link.waiting(txids)

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> Mapping[int, int]:
        return await self._link.confirmations(last, heights)

    async def fee_rate(self, target: int) -> int:
        return await self._link.fee_rate(target)


async def test_who_waits_for_a_wallet_that_is_closed_or_falls_behind_waits_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanner, "CHUNK_ANCHORS", 1)
    runner = SlowRunner()
    async with one_chain(tmp_path, 8, runner) as (here, there, _):
        await there.mine(3)
        a = here.wallets.wallet("a")
        entry = here.wallets._open["a"]

        runner.is_slow = True
        a.rescan(0)
        await here.take(there.mined[0])
        await here.wallets.call("a", Wallet.balance)
        assert entry.progress is not None
        assert not entry.progress.caught_up

        runner.is_slow = False
        await here.settle()
        to = a.paycode()

        async def pay() -> None:
            with pytest.raises(WalletClosedError):
                await here.wallets.send("a", [Payee(to, UNC, b"")], Fee(1))

        async with trio.open_nursery() as nursery, entry.sending:
            nursery.start_soon(pay)
            await here.settle()
            await here.wallets.close("a")
            await here.take(there.mined[1])


class Overtaken(Refuses):
    """A link on which anchors come before the first transfer."""

    def __init__(self, node: WalletNode, packages: list[Package]) -> None:
        super().__init__(node.wallets._link, 10)
        self._node = node
        self._packages = packages

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        packages, self._packages = self._packages, []
        for package in packages:
            await self._node.take(package)
        return await super().submit(transfer)


class Undecided(Refuses):
    """A link on which the first transfer is refused while what waits in the wallet is sent again,
    and would be taken a moment later."""

    def __init__(self, node: WalletNode, package: Package) -> None:
        super().__init__(node.wallets._link, 10)
        self._node = node
        self._package: Package | None = package
        self.sent_again: list[bytes] = []

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        package, self._package = self._package, None
        if package is not None:
            self._node.wallets._hurry(self._node.wallets._open["a"])
            await self._node.take(package)
            await self._node.settle()
            raise TransferRefusedError("FEE_MISMATCH", "as the chain was for a moment")
        if isinstance(transfer, bytes):
            self.sent_again.append(transfer)
        return await super().submit(transfer)


async def test_what_was_refused_and_made_anew_is_not_sent_again_besides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one_chain(tmp_path, 4) as (here, there, _):
        await wallet(here, "b")
        await there.mine(1)
        link = Undecided(here, there.mined[-1])
        monkeypatch.setattr(here.wallets, "_link", link)
        payee = Payee(here.wallets.wallet("b").paycode(), UNC // 2, b"")
        await here.wallets.send("a", [payee], Fee(1), request_id="invoice 17")
        await here.mine(2)
        assert await balance(here, "b") == UNC // 2
        assert link.sent_again == []


async def test_what_a_reorganisation_overtakes_is_chosen_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one_chain(tmp_path, 1) as (here, there, words):
        await there.wallets.create("a", "pass", mnemonic=words)
        await here.mine(2, "a")
        await there.mine(3, "a")
        # two anchors are as many as it has, and either may be chosen; three are more
        await here.hear(there.mined[:1])
        a = here.wallets.wallet("a")
        monkeypatch.setattr(here.wallets, "_link", Overtaken(here, there.mined[1:]))
        # takes two coins, of which at least one is gone by the time that it is sent
        sent = await here.wallets.send("a", [Payee(a.paycode(), 3 * UNC // 2, b"")], Fee(1))
        assert a.store.outgoing(sent.txid).state is OutgoingState.WAITING
        assert here.chain.status.value.tip == there.chain.status.value.tip
        assert here.wallets.statistics().refused == 1
        await here.settle()
        assert a.store.unheard() == []


async def test_what_is_on_the_chain_is_not_sent_again(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").address(), UNC, b"")]
        prepared = await node.wallets.call("a", lambda a: a.spender.pay(to, Fee()))
        signed = await node.wallets.call("a", lambda a: a.sign(prepared.unsigned).to_file())
        sent = await node.wallets.broadcast("a", [signed])
        assert sent.height is None
        await node.mine()
        await node.settle()
        # also through a wallet that has not made it
        for name in ("a", "b"):
            again = await node.wallets.broadcast(name, [signed])
            assert again.height == 4
            found = await node.wallets.call(name, lambda w: w.store.outgoing(sent.txid))
            assert found.height == 4
        with pytest.raises(NoSuchTransferError):
            await node.wallets.abandon("a", sent.txid)


async def test_what_moves_no_coins_of_a_wallet_is_sent_and_not_kept(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        for name in ("b", "c"):
            await wallet(node, name)
        to = [Payee(node.wallets.wallet("b").address(), UNC, b"")]
        prepared = await node.wallets.call("a", lambda a: a.spender.pay(to, Fee()))
        signed = await node.wallets.call("a", lambda a: a.sign(prepared.unsigned).to_file())
        sent = await node.wallets.broadcast("c", [signed])
        assert "no coins of this wallet" in sent.warning
        assert UNC in [payee.value for payee in sent.payees]
        await node.settle()
        assert await node.wallets.call("c", lambda c: c.store.outgoing_or_none(sent.txid)) is None
        assert await node.wallets.call("c", lambda c: c.history()) == []
        (waiting,) = await node.wallets.call("b", lambda b: b.history())
        assert waiting.key == sent.txid
        # its own it keeps, whoever has sent it before
        again = await node.wallets.broadcast("a", [signed])
        assert again.warning == ""
        assert await node.wallets.call("a", lambda a: a.store.outgoing_or_none(sent.txid))
        await node.mine()
        assert (await node.wallets.broadcast("c", [signed])).height == 4
        assert await node.wallets.call("c", lambda c: c.history()) == []


async def test_what_is_sent_again_and_refused_stays_as_it_was(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").paycode(), UNC // 10, b"order 7")]
        sent = await node.wallets.send("a", to, request_id="order 7")
        spends = Transfer.from_bytes(sent.raw)
        coins = await node.wallets.call(
            "a", lambda a: a.store.coins_by_id([spent.coin_id for spent in spends.inputs])
        )
        copy = Unsigned(
            spends.chain_id,
            spends.lock_height,
            spends.fee,
            spends.inputs,
            tuple(coin.value for coin in coins),
            spends.outputs,
            spends.signatures,
            spends.preimages,
        ).to_file()
        # known to the node: what it is for is not forgotten
        again = await node.wallets.broadcast("a", [copy])
        assert (again.payees, again.secrets, again.change) == (
            sent.payees,
            sent.secrets,
            sent.change,
        )
        bumped = await node.wallets.bump_fee("a", sent.txid, Fee(20, allow_high=True))
        await node.mine()
        await node.settle()
        with pytest.raises(TransferRefusedError):
            await node.wallets.broadcast("a", [copy])
        kept = await node.wallets.call("a", lambda a: a.store.outgoing(sent.txid))
        assert kept.state is OutgoingState.REPLACED
        # asked again, the order is not paid a second time, and what pays it is named
        named = await node.wallets.send("a", to, request_id="order 7")
        assert (named.txid, named.height, named.replaces) == (bumped.txid, 4, sent.txid)


async def test_a_request_names_whichever_of_its_transfers_is_included(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").paycode(), UNC // 10, b"order 7")]
        first = await node.wallets.send("a", to, request_id="order 7")
        second = await node.wallets.bump_fee("a", first.txid, Fee(20, allow_high=True))
        third = await node.wallets.bump_fee("a", second.txid, Fee(40, allow_high=True))
        named = await node.wallets.send("a", to, request_id="order 7")
        assert (named.txid, named.replaces) == (third.txid, second.txid)
        # another node's miner may have known of the first alone
        await node.wallets.call("a", lambda a: a.store.include(first.txid, 4))
        named = await node.wallets.send("a", to, request_id="order 7")
        assert (named.txid, named.height) == (first.txid, 4)


async def test_only_what_the_wallet_knows_has_a_label(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await wallet(node, "b")
        await node.settle()
        sent = await node.wallets.send("a", [Payee(node.wallets.wallet("b").address(), UNC, b"")])
        coin = node.wallets.wallet("a").store.coins()[-1].coin_id
        for kind, key in (("coin", coin), ("transfer", sent.txid)):
            await node.wallets.call("a", lambda a, k=kind, i=key: a.label(k, i, "rent"))
            for other in ("coin", "transfer", "contract"):
                if other != kind:
                    with pytest.raises(NothingKnownError, match=other):
                        await node.wallets.call("a", lambda a, k=other, i=key: a.label(k, i, "x"))
            # taking a label away that is not there harms nobody
            await node.wallets.call("a", lambda a, i=key: a.label("contract", i, ""))


async def test_a_request_pays_once(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 5)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").paycode(), UNC // 10, b"order 7")]
        made: list[bytes] = []

        async def pay() -> None:
            made.append((await node.wallets.send("a", to, request_id="order 7")).txid)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(pay)
        assert len(set(made)) == 1
        await node.mine()
        await node.settle()
        again = await node.wallets.send("a", to, request_id="order 7")
        assert (again.txid, again.height) == (made[0], 6)
        assert await balance(node, "b") == UNC // 10
        other = [Payee(to[0].payee, UNC // 5, b"order 7")]
        with pytest.raises(RequestReusedError, match=made[0].hex()):
            await node.wallets.send("a", other, request_id="order 7")
        assert (await node.wallets.send("a", other, request_id="order 8")).txid != made[0]


async def test_a_request_that_the_node_refused_may_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").address(), UNC // 10, b"")]
        with monkeypatch.context() as patch:
            patch.setattr(node.wallets, "_link", Refuses(node.wallets._link, 0))
            with pytest.raises(TransferRefusedError):
                await node.wallets.send("a", to, request_id="order 7")
        assert (await node.wallets.send("a", to, request_id="order 7")).height is None


class Stuck(Refuses):
    """A link whose answer to a transfer never comes."""

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        await trio.sleep_forever()
        return False


async def test_a_payment_whose_caller_gave_up_goes_out_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").address(), UNC // 10, b"")]
        with monkeypatch.context() as patch:
            patch.setattr(node.wallets, "_link", Stuck(node.wallets._link, 0))
            with trio.move_on_after(1):
                await node.wallets.send("a", to, request_id="order 7")
        began = trio.current_time()
        await node.settle()
        await node.mine()
        again = await node.wallets.send("a", to, request_id="order 7")
        assert (again.height, trio.current_time()) == (4, began)
        assert await balance(node, "b") == UNC // 10


async def test_a_payment_that_was_noted_as_the_node_was_killed_goes_out_as_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = wallet_node(tmp_path)
    async with node.running():
        await wallet(node, "a", 3)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").address(), UNC // 10, b"")]
        async with trio.open_nursery() as nursery:
            monkeypatch.setattr(node.wallets, "_link", Stuck(node.wallets._link, 0))
            nursery.start_soon(lambda: node.wallets.send("a", to, request_id="order 7"))
            await node.settle()
            nursery.cancel_scope.cancel()
        assert node.chain.status.value.mempool.transfers == 0
    began = trio.current_time()
    async with node.running():
        await node.settle()
        assert node.chain.status.value.mempool.transfers == 1
        await node.mine()
        again = await node.wallets.send("a", to, request_id="order 7")
        assert (again.height, trio.current_time()) == (4, began)


@pytest.mark.parametrize("taken", [0, 1])
async def test_joining_that_the_node_refuses_frees_all(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, spender):
        monkeypatch.setattr(module, "MAX_INPUTS", 3)
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 8)
        await wallet(node, "b")
        to = [Payee(node.wallets.wallet("b").address(), 5 * UNC, b"")]
        with monkeypatch.context() as patch:
            patch.setattr(node.wallets, "_link", Refuses(node.wallets._link, taken))
            with pytest.raises(TransferRefusedError):
                await node.wallets.send("a", to, request_id="order 7")
        waiting = await node.wallets.call("a", lambda w: w.store.waiting_outgoing())
        assert len(waiting) == taken
        sent = await node.wallets.send("a", to, request_id="order 7")
        assert len(sent.joined) >= 1
        await node.mine()
        assert await balance(node, "b") == 5 * UNC


class JoinedInVain(Refuses):
    """A link on which the chain goes on after the first transfer, whose coins are kept back then:
    what spends them is refused."""

    def __init__(self, node: WalletNode) -> None:
        super().__init__(node.wallets._link, 1)
        self._node = node

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        if not self._left:
            self._left = 10
            store = self._node.wallets.wallet("a").store
            for coin in store.coins():
                if coin.value > UNC:
                    store.freeze(coin.coin_id, frozen=True)
            await self._node.mine(1)
            raise TransferRefusedError("FEE_MISMATCH", "as the chain was for a moment")
        return await super().submit(transfer)


async def test_what_joins_coins_and_is_sent_counts_for_what_was_agreed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan, spender):
        monkeypatch.setattr(module, "MAX_INPUTS", 3)
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 8)
        await wallet(node, "b")
        to = (Payee(node.wallets.wallet("b").address(), 7 * UNC // 2, b""),)
        planned = await node.wallets.plan("a", PaymentOrder(to, Fee(1)))
        agreed = sum(step.unsigned.fee for step in planned)
        assert len(planned) == 2
        with monkeypatch.context() as patch:
            patch.setattr(node.wallets, "_link", JoinedInVain(node))
            with pytest.raises(FeeAboveMaxError, match=r"agreed to; .* sent already: 1$") as caught:
                await node.wallets.send("a", to, Fee(1, most=agreed))
        (joined,) = (it for it in await node.wallets.call("a", lambda w: w.store.all_outgoing()))
        assert caught.value.fee == joined.fee + agreed
        assert await node.wallets.send("a", to, Fee(1, most=agreed))


async def test_the_fee_is_by_default_the_estimate_for_two_anchors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        asked: list[int] = []

        async def rate(target: int) -> int:
            asked.append(target)
            return 10 * target

        monkeypatch.setattr(node.wallets._link, "fee_rate", rate)
        fees = [await node.wallets.fee(), await node.wallets.fee(target=5)]
        assert [fee.rate for fee in fees] == [20, 50]
        assert (await node.wallets.fee(7)).rate == 7
        sent = await node.wallets.send("a", [Payee(node.wallets.wallet("a").address(), UNC, b"")])
        assert sent.fee >= 20 * sent.size
        assert asked == [2, 5, 2, 2]


@pytest.mark.parametrize("taken", [0, 1])
async def test_a_sweep_that_ends_halfway_tells_both(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spender, "MAX_INPUTS", 2)
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 6)
        await wallet(node, "b")
        monkeypatch.setattr(node.wallets, "_link", Refuses(node.wallets._link, taken))
        to = node.wallets.wallet("b").address()
        before = await balance(node, "a")
        if not taken:
            with pytest.raises(TransferRefusedError, match="full"):
                await node.wallets.sweep("a", to)
        else:
            made = await node.wallets.sweep("a", to)
            assert len(made.sent) == 1
            assert [step.rule for step in made.refused] == ["MEMPOOL_FULL"] * 2
            assert made.left == 4 * UNC
        await node.mine()
        assert await balance(node, "a") == before - 2 * UNC * taken


class HeldRunner:
    """A runner that works only once it is let go."""

    def __init__(self) -> None:
        self.let_go = trio.Event()

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        await self.let_go.wait()
        return work(*args)


async def test_a_lock_during_an_unlock_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a")
        node.wallets.lock("a")
        held = HeldRunner()
        monkeypatch.setattr(node.wallets, "_runner", held)
        async with trio.open_nursery() as nursery:

            async def unlock() -> None:
                with pytest.raises(WalletLockedError):
                    await node.wallets.unlock("a", "pass", 60)

            nursery.start_soon(unlock)
            await trio.testing.wait_all_tasks_blocked()
            node.wallets.lock("a")
            held.let_go.set()
        assert node.wallets.wallet("a").locked


async def test_who_unlocks_for_himself_locks_nobody_else_out(tmp_path: Path) -> None:
    """Commands that pay at once each unlock the wallet and lock it again."""
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        held, wallets = node.wallets.wallet("a"), node.wallets
        for name, seconds in (("one", 60), ("two", 30)):
            await wallets.unlock("a", "pass", seconds, name)
        wallets.lock("a", "one")
        wallets.lock("a", "of nobody")
        assert not held.locked
        wallets.lock("a", "two")
        assert held.locked
        # who unlocks it by hand keeps it so, until its time is over
        await wallets.unlock("a", "pass", 100)
        await wallets.unlock("a", "pass", 60, "one")
        wallets.lock("a", "one")
        await trio.sleep(99)
        assert not held.locked
        await wallets.unlock("a", "pass", 60, "one")
        await trio.sleep(30)
        assert not held.locked
        await trio.sleep(31)
        assert held.locked
        # who needs it longest, and is done, leaves it to the deadlines of the others
        await wallets.unlock("a", "pass", 604_800, "service")
        await trio.sleep(1)
        await wallets.unlock("a", "pass", 10)
        await trio.sleep(1)
        wallets.lock("a", "service")
        await trio.sleep(8)
        assert not held.locked
        await trio.sleep(2)
        assert held.locked
        # who locks it by hand locks everybody out
        for name in ("one", "two"):
            await wallets.unlock("a", "pass", 60, name)
        wallets.lock("a")
        assert held.locked


async def test_a_wallet_is_followed_while_its_passphrase_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    began = threading.Event()

    def slow(wallet: Wallet, passphrase: str) -> SpendSecret:
        began.set()
        assert let_go.wait(60)
        return wallet.keystore.unlock(passphrase)

    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        monkeypatch.setattr(node.wallets, "_runner", ThreadRunner(2))
        monkeypatch.setattr(Wallet, "open_secret", slow)
        room = WalletRoom(node.wallets, node.chain.queries)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.check_passphrase, Secret("pass"), "a")
            try:
                assert await trio.to_thread.run_sync(began.wait, 60)
                assert (await node.wallets.call("a", Wallet.balance)).on_chain
            finally:
                let_go.set()
        assert (await room.mnemonic(Secret("pass"), "a")).words


@pytest.mark.parametrize("how", [NewPassphrase("pass", "new"), OneMoreAccount("pass")])
async def test_a_wallet_is_followed_while_it_is_sealed_anew(
    how: NewPassphrase | OneMoreAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, began = threading.Event(), threading.Event()
    unlock = Keystore.unlock

    def slow(keystore: Keystore, passphrase: str) -> SpendSecret:
        began.set()
        assert let_go.wait(60)
        return unlock(keystore, passphrase)

    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        monkeypatch.setattr(node.wallets, "_runner", ThreadRunner(2))
        monkeypatch.setattr(Keystore, "unlock", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.wallets.reseal, "a", how)
            try:
                assert await trio.to_thread.run_sync(began.wait, 60)
                assert (await node.wallets.call("a", Wallet.balance)).on_chain
                # what it was worked out of is no more: it is worked out again
                held = node.wallets.wallet("a")
                before = held.present_keys()
                monkeypatch.setattr(Keystore, "unlock", unlock)
                assert held.replace_keys(before, before.keystore.with_account("pass"))
            finally:
                let_go.set()
        is_new = isinstance(how, NewPassphrase)
        assert held.info().accounts == ((0, 1) if is_new else (0, 1, 2))
        await node.wallets.unlock("a", "new" if is_new else "pass", 60)


class Faulty(Refuses):
    """A link with a fault of the node's own."""

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        raise ValueError("a fault of the node's")


async def test_a_fault_of_the_node_is_not_told_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with wallet_node(tmp_path).running() as node:
            await wallet(node, "a", 3)
            to = node.wallets.wallet("a").paycode()
            monkeypatch.setattr(node.wallets, "_link", Faulty(node.wallets._link, 0))
            with pytest.raises(ValueError, match="a fault of the node's"):
                await node.wallets.send("a", [Payee(to, UNC, b"")], Fee(1))
            await trio.sleep(2 * REBROADCAST_S)
            (status,) = await node.wallets.wallets()
            assert status.failure == "", "the node went on"

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert caught.group_contains(ValueError, match="a fault of the node's")

    def load(path: Path, network: Network) -> Keystore:
        raise ValueError("a fault of the node's")

    monkeypatch.setattr(Keystore, "load", load)
    with pytest.raises(ValueError, match="a fault of the node's"):
        Wallet.open(tmp_path, "a", REG)


async def test_a_wallet_that_is_to_read_again_is_behind_at_once(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        await node.settle()
        keys = node.wallets.wallet("a").address()
        made = hash_time_lock(REG, keys, keys, 50)
        for read_again in (
            partial(node.wallets.rescan, "a"),
            partial(node.wallets.add_contract, "a", made.contract, read_again=True),
        ):
            await read_again()
            (status,) = await node.wallets.wallets()
            assert status.progress is not None
            assert (status.progress.rescan_next, status.progress.caught_up) == (0, False)
            await node.wallets.cancel_rescan("a")
            (status,) = await node.wallets.wallets()
            assert status.progress is not None
            assert status.progress.caught_up


async def test_a_contract_is_watched_and_looked_for_or_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(wallet: Wallet, height: int) -> None:
        raise KeyboardInterrupt

    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 3)
        keys = node.wallets.wallet("a").address()
        made = hash_time_lock(REG, keys, keys, 50)
        with monkeypatch.context() as patched:
            patched.setattr(Wallet, "rescan", killed)
            with pytest.raises(KeyboardInterrupt):
                await node.wallets.add_contract("a", made.contract, read_again=True)
        assert await node.wallets.call("a", Wallet.contracts) == []
        await node.wallets.add_contract("a", made.contract, read_again=True)
        assert node.wallets.wallet("a").store.number("rescan from") == 0


async def test_of_two_that_make_one_wallet_one_is_refused(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        made: list[str] = []
        refused: list[WalletExistsError] = []

        async def create() -> None:
            try:
                made.append(await node.wallets.create("a", "pass"))
            except WalletExistsError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(create)
        assert (len(made), len(refused)) == (1, 3)
        assert await node.wallets.call("a", lambda a: a.open_secret("pass").mnemonic()) == made[0]


async def test_a_birth_above_the_tip_is_refused(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        words = await wallet(node, "a", 3)
        with pytest.raises(BadBirthError, match="above the tip's 3"):
            await node.wallets.create("b", "pass", mnemonic=words, birth=20261127)
        await node.wallets.create("b", "pass", mnemonic=words, birth=3)
        assert await balance(node, "b") == UNC


async def test_a_damaged_file_closes_its_wallet_and_no_other(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 40)
        await wallet(node, "b")
        await node.settle()
        await node.wallets.close("a")
        await node.wallets.open("a")
        await node.settle()
        with (tmp_path / "a.db").open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(4_096)
            file.write(bytes(range(256)) * ((size - 4_096) // 256))
        # What was checked when it was opened is still in memory.
        await node.wallets.call("a", lambda a: a.store.rows("PRAGMA shrink_memory"))
        await node.mine(1, "a")
        await node.mine(2, "b")
        assert await balance(node, "b") == 2 * UNC
        (a, b) = await node.wallets.wallets()
        assert "move it away, with the -wal" in a.failure
        assert b.failure == ""
        with pytest.raises(StoreDamagedError, match="labels and contracts are not"):
            await node.wallets.call("a", Wallet.history)


async def test_values_changed_by_hand_close_their_wallet_and_no_other(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        for name in ("a", "b", "c"):
            await wallet(node, name, 2)
        await node.settle()
        await node.wallets.unlock("a", "pass", 600)
        (payee,) = [await node.wallets.call("b", Wallet.address)]
        await node.wallets.send("a", [Payee(payee, UNC // 4, b"")])
        await node.settle()
        with closing(sqlite3.connect(tmp_path / "a.db")) as db, db:
            db.execute("DELETE FROM waiting")
            db.execute("UPDATE outgoing SET raw = x'00'")
        await node.wallets.close("c")
        with closing(sqlite3.connect(tmp_path / "c.db")) as db, db:
            db.execute("UPDATE coins SET origin = 99")
        with pytest.raises(StoreDamagedError):
            await node.wallets.open("c")
        await trio.sleep(REBROADCAST_S)
        await node.mine(1, "b")
        assert await balance(node, "b") > 3 * UNC
        (a, b, c) = await node.wallets.wallets()
        assert "NonCanonicalError" in a.failure
        assert b.failure == ""
        assert "coins.origin is 99" in c.failure
        assert c.info is None
    async with wallet_node(tmp_path).running() as node:
        (a, b, c) = await node.wallets.wallets()
        assert "the bytes of the transfer" in a.failure
        assert (b.failure, b.info is None) == ("", False)
        assert "coins.origin is 99" in c.failure


async def test_a_wallet_whose_file_fails_stops_and_the_others_go_on(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        await wallet(node, "b", 1)
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        node.wallets.wallet("a").store.run("PRAGMA busy_timeout = 0")
        other.execute("BEGIN EXCLUSIVE")
        await node.mine(1, "b")
        assert await balance(node, "b") == 2 * UNC
        (a, _) = await node.wallets.wallets()
        assert "locked" in a.failure
        other.execute("ROLLBACK")
        other.close()
        await trio.sleep(60)
        (a, _) = await node.wallets.wallets()
        assert a.failure == ""
        assert a.progress is not None
        assert a.progress.height == 3


async def test_a_swap_between_two_networks(tmp_path: Path) -> None:
    """Alice has coins on one network and wants Bob's on the other; neither has to trust."""

    here, there = wallet_node(tmp_path / "here"), wallet_node(tmp_path / "there", OTHER)
    async with here.running(), there.running():
        await wallet(here, "alice", 3)
        await wallet(here, "bob")
        await wallet(there, "bob", 6)
        await wallet(there, "alice")
        on = {
            (node, name): node.wallets.wallet(name)
            for node in (here, there)
            for name in ("alice", "bob")
        }
        # Alice draws the secret and locks hers first, for longer
        first = hash_time_lock(
            REG, on[here, "bob"].address(), on[here, "alice"].address(), here_height(here) + 40
        )
        text = first.contract.to_text()
        await here.wallets.add_contract("alice", first.contract, preimage=first.preimage)
        await here.wallets.send("alice", [Payee(text, 2 * UNC, b"")])
        await here.mine(2)

        # Bob sees it, and locks his under the same hash, for less long
        contract = Contract.from_text(text, REG)
        await here.wallets.add_contract("bob", contract)
        await here.wallets.rescan("bob")
        await here.settle()
        assert on[here, "bob"].contract(contract.lock).value == 2 * UNC
        terms = contract.terms
        second = hash_time_lock(
            OTHER,
            on[there, "alice"].address(),
            on[there, "bob"].address(),
            here_height(there) + 20,
            terms.hash,  # type: ignore[union-attr]
        )
        assert second.preimage is None
        lock = second.contract.lock
        await there.wallets.add_contract("bob", second.contract)
        await there.wallets.add_contract("alice", second.contract)
        await there.wallets.send("bob", [Payee(second.contract.to_text(), 3 * UNC, b"")])
        await there.mine(2)

        # Alice claims, and by that shows Bob the secret
        claimed = await there.wallets.claim("alice", lock, preimage=first.preimage)
        await there.mine()
        assert await balance(there, "alice") == 3 * UNC - claimed.fee
        shown = on[there, "bob"].contract(lock).preimage
        assert shown == first.preimage
        assert shown is not None
        assert hashlib.sha256(shown).digest() == terms.hash  # type: ignore[union-attr]
        taken = await here.wallets.claim("bob", contract.lock, preimage=shown)
        await here.mine()
        assert await balance(here, "bob") == 2 * UNC - taken.fee


async def test_a_swap_that_nobody_answers_is_refunded(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "alice", 2)
        await wallet(node, "bob")
        alice, bob = node.wallets.wallet("alice"), node.wallets.wallet("bob")
        made = hash_time_lock(REG, bob.address(), alice.address(), here_height(node) + 5)
        lock = made.contract.lock
        await node.wallets.add_contract("alice", made.contract, preimage=made.preimage)
        await node.wallets.send("alice", [Payee(made.contract.to_text(), UNC, b"")])
        await node.mine(4)
        refunded = await node.wallets.refund("alice", lock)
        await node.mine()
        assert alice.store.outgoing(refunded.txid).height == here_height(node)
        assert alice.contract(lock).value == 0


def here_height(node: WalletNode) -> int:
    return node.chain.status.value.height


@pytest.mark.real_time
async def test_with_threads_and_a_store_on_disk(tmp_path: Path) -> None:
    store = open_store(tmp_path / "chain", REG, create=True)

    try:
        node = WalletNode(REG, tmp_path / "wallets", store, ThreadRunner(3))
        async with node.running():
            for name in ("a", "b", "c"):
                await node.wallets.create(name, "pass")
                await node.wallets.unlock(name, "pass", 600)
            await node.mine(20, "a")
            await node.caught_up()
            to = [node.wallets.wallet(name).paycode() for name in ("b", "c")]

            async def pay(at: int) -> None:
                await node.wallets.send("a", [Payee(to[at % 2], UNC // 2, b"")])

            async with trio.open_nursery() as nursery:
                for at in range(10):
                    nursery.start_soon(pay, at)
                nursery.start_soon(node.wallets.rescan, "a")
            await node.mine(2)
            await node.caught_up()
            for name in ("b", "c"):
                balance = await node.wallets.call(name, Wallet.balance)
                assert balance.on_chain == 5 * (UNC // 2)
    finally:
        store.close()


async def test_no_secret_is_shown(tmp_path: Path) -> None:
    """Search all that was logged, shown and written in clear for what must stay hidden."""
    node = wallet_node(tmp_path)
    hidden: list[bytes] = []
    shown: list[str] = []

    async with node.running():
        words = await wallet(node, "a", 2)
        a = node.wallets.wallet("a")
        secret = Keystore.load(tmp_path / "a.wallet", REG).unlock("pass")
        account = secret.account(REG.chain_id, 0)
        hidden.extend([words.encode(), *[w.encode() for w in (words[:30], words[-30:])]])
        hidden.extend([account.view.seed(), account.mine_secret, secret.to_bytes()[2:34]])
        hidden.extend([b"my label", b"my memo"])
        made = hash_time_lock(REG, a.address(), a.address(), 50)
        assert made.preimage is not None
        hidden.append(made.preimage)
        await node.wallets.add_contract("a", made.contract, label="my label")
        await node.wallets.send("a", [Payee(a.paycode(), UNC // 2, b"my memo")])
        await node.mine()
        try:
            await node.wallets.send("a", [Payee(a.paycode(), 100 * UNC, b"my memo")])
        except Exception as error:  # noqa: BLE001
            shown.append(repr(error) + str(error))
        shown.extend([repr(a), repr(made), repr(secret), repr(account), repr(a.info())])
        shown.extend(repr(vars(a)).split("\n"))
        shown.append(repr(await node.wallets.wallets()))
        with node.wallets.changes.subscribe() as changes:
            await node.mine(1, "a")
            change = await changes.receive()
            assert not isinstance(change, Lost)
            shown.append(repr(change))
    assert node.captured.lines
    text = "\n".join([*shown, *node.captured.lines])
    for secret in hidden:
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
    for path in tmp_path.glob("*.db*"):  # noqa: ASYNC240 - nothing else runs
        raw = path.read_bytes()
        for secret in hidden:
            assert secret not in raw
    raw = (tmp_path / "a.wallet").read_bytes()
    for secret in (hidden[0], hidden[1], hidden[2], hidden[5]):
        assert secret not in raw


async def test_after_a_reset_the_wallets_transfers_are_given_up_and_their_change_is_not_spent(
    tmp_path: Path,
) -> None:
    """Also what builds on them; and all of it is expected again where the chain comes back."""
    node = wallet_node(tmp_path)
    async with node.running():
        await wallet(node, "a", 1)
        a = node.wallets.wallet("a")
        pay = [Payee(a.address(), UNC // 4, b"")]
        first = await node.wallets.send("a", pay)
        second = await node.wallets.send("a", pay)
        await node.settle()
        assert {sent.txid for sent in a.store.waiting_outgoing()} == {first.txid, second.txid}
    chain = list(node.mined)
    node.store = MemoryStore()
    prepare(node.store, REG)
    async with node.running():
        await node.settle()
        a = node.wallets.wallet("a")
        assert a.store.waiting_outgoing() == []
        states = [a.store.outgoing(sent.txid).state for sent in (first, second)]
        assert states == [OutgoingState.CONFLICT] * 2
        assert a.store.own_change(0) == []
        assert (a.balance().on_chain, a.balance().pending) == (0, 0)
        assert a.store.coins(spent=True) == []
        await node.wallets.unlock("a", "pass", 600)
        with pytest.raises(InsufficientFundsError):
            await node.wallets.send("a", pay)
        # The same chain, from a peer: the coin is there again, and so is what spends it.
        await node.hear(chain)
        await node.settle()
        assert {sent.txid for sent in a.store.waiting_outgoing()} == {first.txid, second.txid}
        await node.mine()
        assert a.store.outgoing(first.txid).height == a.store.outgoing(second.txid).height == 2


async def test_what_a_set_aside_lost_is_sent_again_when_it_is_taken_back(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 2)
        a = node.wallets.wallet("a")
        old, young = sorted(a.store.coins(), key=lambda coin: coin.height or 0)
        to = [Payee(a.address(), UNC // 4, b"")]
        of_young = await node.wallets.send("a", to, coins=[young.coin_id])
        of_old = await node.wallets.send("a", to, coins=[old.coin_id])
        aside = node.mined[-1].anchor.id
        assert await node.chain.set_aside(aside)
        await node.settle()
        assert [sent.txid for sent in a.store.waiting_outgoing()] == [of_old.txid]
        assert a.store.outgoing(of_young.txid).state is OutgoingState.CONFLICT
        pool = await node.chain.queries.mempool_state(0)
        began = trio.current_time()
        assert await node.chain.take_back(aside)
        await node.settle()
        assert trio.current_time() - began < 1
        assert pool.transfers == 1
        assert a.store.unheard() == []
        assert (await node.chain.queries.mempool_state(0)).transfers == 2
        await node.mine()
        assert a.store.outgoing(of_young.txid).height == a.store.outgoing(of_old.txid).height == 3


async def test_a_transfer_that_was_refused_is_tried_at_each_anchor_and_reported_once(
    tmp_path: Path,
) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        a = node.wallets.wallet("a")
        height = node.chain.status.value.height
        prepared = a.spender.pay(
            [Payee(a.address(), UNC // 4, b"")], Fee(1), lock_height=height + 3
        )
        kept = a.record(a.finish(prepared), 0, change=prepared.change)
        await trio.sleep(REBROADCAST_S + 1)
        for _ in range(2):
            assert [sent.txid for sent in a.store.unheard()] == [kept.txid]
            await node.mine()
            await node.settle()
        assert a.store.unheard() == []
        refusals = [line for line in node.captured.lines if "wallet.refused" in line]
        assert len(refusals) == 1
        assert "LOCKED_UNTIL_HEIGHT" in refusals[0]


async def test_what_builds_on_an_abandoned_transfer_is_named(tmp_path: Path) -> None:
    async with wallet_node(tmp_path).running() as node:
        await wallet(node, "a", 1)
        a = node.wallets.wallet("a")
        made = []
        for _ in range(3):
            prepared = a.spender.pay([Payee(a.address(), UNC // 8, b"")], Fee(1))
            made.append(a.record(a.finish(prepared), 0, change=prepared.change).txid)
        assert await node.wallets.abandon("a", made[1]) == (made[2],)
        assert [sent.txid for sent in a.store.waiting_outgoing()] == [made[0]]
        assert await node.wallets.abandon("a", made[0]) == ()
