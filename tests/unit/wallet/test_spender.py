"""Payments, sweeps, replacements, contracts, and signing without a node."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import LOCAL, REG, Network
from unchained.node.consensus.policy import PolicyError
from unchained.node.crypto.addresses import address_lock
from unchained.node.primitives.codec import encode
from unchained.node.primitives.conditions import KeyCondition
from unchained.node.primitives.transfer import Input, Output, SizedTransfer, Transfer
from unchained.node.wallet import orders, plan, spender
from unchained.node.wallet.contracts import hash_time_lock, multisig
from unchained.node.wallet.errors import (
    BadPaymentError,
    ConsolidationNeededError,
    ContractError,
    HighFeeError,
    InsufficientFundsError,
    NoSuchAccountError,
    NoSuchCoinError,
    NoSuchTransferError,
    NothingToDoError,
    SigningError,
    WalletLockedError,
    WatchOnlyError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.history import EVERYTHING
from unchained.node.wallet.keystore import Keystore, SpendSecret
from unchained.node.wallet.orders import PaymentOrder
from unchained.node.wallet.recogniser import TransferFinds
from unchained.node.wallet.records import HistoryKind, OutgoingNote, OutgoingState, Payee
from unchained.node.wallet.spending import limited_by
from unchained.node.wallet.summary import fingerprint_of
from unchained.node.wallet.unsigned import UNSIGNED_NAME, Unsigned, UnsignedPayee
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.watch_export import WatchExport

UNC = 10**8


class Scene:
    """Two wallets on a chain; the first has mined `coins` coins of one UNC."""

    def __init__(self, coins: int = 4, network: Network = REG) -> None:
        self.chain = WalletChain(network)
        self.a = Purse(self.chain, cheap_wallet("a", network))
        self.b = Purse(self.chain, cheap_wallet("b", network))
        if coins:
            self.chain.grow(coins, self.a.mine_to)
        self.sync()

    def sync(self) -> None:
        self.a.sync()
        self.b.sync()

    def mine(self, count: int = 1) -> None:
        self.chain.grow(count)
        self.sync()


# Fees


@pytest.mark.parametrize("rate", [1, 2, 7, 100])
def test_the_fee_is_the_rate_within_a_hundredth(rate: int) -> None:
    scene = Scene()
    sent = scene.a.pay(scene.b.wallet.paycode(), UNC * 3 // 2, b"x", rate)
    assert rate * sent.size <= sent.fee <= rate * sent.size * 1.01


def test_the_fee_is_exactly_what_was_asked_for() -> None:
    scene = Scene()
    prepared = scene.a.wallet.spender.pay(
        [Payee(scene.b.wallet.address(), UNC, b"")], Fee(exact=12_345)
    )
    assert scene.a.send(prepared).fee == 12_345


def test_a_payment_without_change() -> None:
    scene = Scene(1)
    spender = scene.a.wallet.spender
    probe = spender.pay([Payee(scene.b.wallet.address(), UNC // 2, b"")], Fee(1))
    assert probe.change is not None
    bare = probe.unsigned.fee - 1_024 - 47 - len(probe.unsigned.outputs[probe.change].note)
    sent = scene.a.send(spender.pay([Payee(scene.b.wallet.address(), UNC - bare, b"")], Fee(1)))
    assert sent.change is None
    assert scene.a.balance.pending == 0


@pytest.mark.parametrize("fee", [Fee(0), Fee(10**7), Fee(exact=0), Fee(exact=2**63), Fee(exact=5)])
def test_refuses_a_fee_that_nobody_means(fee: Fee) -> None:
    scene = Scene()
    with pytest.raises(BadPaymentError, match="fee"):
        scene.a.wallet.spender.pay([Payee(scene.b.wallet.address(), UNC, b"")], fee)


# Coins


def test_says_what_is_missing() -> None:
    scene = Scene(2)
    spender, to = scene.a.wallet.spender, scene.b.wallet.address()
    with pytest.raises(InsufficientFundsError) as caught:
        spender.pay([Payee(to, 3 * UNC, b"")], Fee(1))
    assert caught.value.available == 2 * UNC
    with pytest.raises(InsufficientFundsError):
        spender.pay([Payee(to, 2 * UNC, b"")], Fee(1))
    with pytest.raises(BadPaymentError, match="1 to 255 payees"):
        spender.pay([], Fee(1))
    with pytest.raises(BadPaymentError, match="one transfer holds"):
        spender.pay([Payee(scene.b.wallet.paycode(), 5_000, b"")] * 255, Fee(1))
    with pytest.raises(NoSuchAccountError):
        spender.pay([Payee(to, UNC, b"")], Fee(1), account=7)


def test_spends_the_change_of_its_own_waiting_transfers() -> None:
    scene = Scene(1)
    for _ in range(3):
        scene.a.pay(scene.b.wallet.paycode(), UNC // 10)
    scene.mine()
    assert scene.b.balance.confirmed == 3 * (UNC // 10)


class NoLimit:
    """What a token may spend that may spend everything."""

    def reserve(self, txid: bytes, amount: int, replaced: bytes = b"") -> bool:
        return True

    def check(self, amount: int) -> None:
        """Nothing is too much."""

    def release(self, txid: bytes) -> None:
        """Nothing is counted."""


def test_frozen_coins_stay_unless_they_are_named() -> None:
    scene = Scene(2)
    store = scene.a.wallet.store
    first, second = store.coins()
    store.freeze(first.coin_id, frozen=True)
    assert scene.a.balance.frozen == UNC
    spender, to = scene.a.wallet.spender, scene.b.wallet.address()
    with pytest.raises(InsufficientFundsError):
        spender.pay([Payee(to, UNC * 3 // 2, b"")], Fee(1))
    prepared = spender.pay([Payee(to, UNC // 2, b"")], Fee(1), coins=[first.coin_id])
    assert [spent.coin_id for spent in prepared.unsigned.inputs] == [first.coin_id]
    (prepared,) = spender.sweep(to, Fee(1), coins=[first.coin_id])
    assert [spent.coin_id for spent in prepared.unsigned.inputs] == [first.coin_id]
    with limited_by(NoLimit()), pytest.raises(NoSuchCoinError, match="frozen: a token"):
        spender.pay([Payee(to, UNC // 2, b"")], Fee(1), coins=[first.coin_id])
    prepared = spender.pay([Payee(to, UNC // 2, b"")], Fee(1), coins=[second.coin_id])
    assert [spent.coin_id for spent in prepared.unsigned.inputs] == [second.coin_id]
    store.freeze(first.coin_id, frozen=False)
    scene.a.pay(to, UNC * 3 // 2)
    with pytest.raises(NoSuchCoinError, match="spent"):
        spender.pay([Payee(to, UNC // 2, b"")], Fee(1), coins=[first.coin_id])
    (change,) = [coin for coin in store.coins() if coin.height is None]
    with pytest.raises(NoSuchCoinError, match="not confirmed"):
        spender.pay([Payee(to, UNC // 4, b"")], Fee(1), coins=[change.coin_id])
    with pytest.raises(NoSuchCoinError, match="no coin"):
        spender.pay([Payee(to, UNC // 4, b"")], Fee(1), coins=[bytes(32)])


def test_sweeps_everything() -> None:
    scene = Scene(5)
    (prepared,) = scene.a.wallet.spender.sweep(scene.b.wallet.paycode(), Fee(3), memo=b"all")
    sent = scene.a.send(prepared)
    assert 3 * sent.size <= sent.fee <= 3 * sent.size * 1.01
    scene.mine()
    assert scene.a.balance.on_chain == 0
    assert scene.b.balance.on_chain == 5 * UNC - sent.fee
    with pytest.raises(NothingToDoError):
        scene.a.wallet.spender.sweep(scene.b.wallet.paycode(), Fee(1))
    with pytest.raises(BadPaymentError, match="fee rate"):
        scene.b.wallet.spender.sweep(scene.a.wallet.paycode(), Fee(exact=9))


def test_consolidates_the_small_ones() -> None:
    scene = Scene(3)
    scene.a.pay(scene.a.wallet.paycode(), UNC // 10)
    scene.a.pay(scene.a.wallet.paycode(), UNC // 10)
    scene.mine()
    (prepared,) = scene.a.wallet.spender.consolidate(Fee(1), below=UNC // 2)
    assert sorted(prepared.unsigned.values) == [UNC // 10, UNC // 10]
    scene.a.send(prepared)
    scene.mine()
    with pytest.raises(NothingToDoError):
        scene.a.wallet.spender.consolidate(Fee(1), below=UNC // 10)


def test_more_coins_than_one_transfer_holds() -> None:
    scene = Scene(0)
    for _ in range(25):
        scene.chain.mine(*[scene.a.mine_to] * 50)
    scene.sync()
    to = scene.b.wallet.paycode()
    with pytest.raises(ConsolidationNeededError, match="consolidate"):
        scene.a.wallet.spender.pay([Payee(to, 1_100 * UNC, b"")], Fee(1))
    prepared = scene.a.wallet.spender.consolidate(Fee(1))
    assert [len(step.unsigned.inputs) for step in prepared] == [1_024, 226]
    for step in prepared:
        scene.a.send(step)
    scene.mine()
    scene.a.pay(to, 1_100 * UNC)


# Replacing, abandoning


def test_a_replacement_pays_more_and_the_first_is_gone() -> None:
    scene = Scene()
    first = scene.a.pay(scene.b.wallet.paycode(), UNC // 2, b"keep me")
    with pytest.raises(BadPaymentError, match="does not replace"):
        scene.a.wallet.spender.bump(first.txid, Fee(1))
    second = scene.a.send(scene.a.wallet.spender.bump(first.txid, Fee(2)))
    assert second.replaces == first.txid
    assert second.fee > first.fee
    store = scene.a.wallet.store
    assert store.outgoing(first.txid).state is OutgoingState.REPLACED
    assert [out.txid for out in store.waiting_outgoing()] == [second.txid]
    scene.mine()
    assert scene.b.balance.confirmed == UNC // 2
    assert scene.b.wallet.history()[0].memos == (b"keep me",)
    assert scene.a.balance.on_chain == 4 * UNC - UNC // 2 - second.fee
    for txid in (first.txid, second.txid, bytes(32)):
        with pytest.raises(NoSuchTransferError):
            scene.a.wallet.spender.bump(txid, Fee(5))


def test_a_replacement_seals_its_notes_anew() -> None:
    scene = Scene()
    first = scene.a.pay(scene.b.wallet.paycode(), UNC // 2, b"keep me")
    second = scene.a.wallet.spender.bump(first.txid, Fee(3))
    old = {output.note for output in SizedTransfer.from_bytes(first.raw).transfer.outputs}
    new = {output.note for output in second.unsigned.outputs}
    assert {len(note) for note in old | new} == {1_360}
    assert not old & new


def test_what_was_made_elsewhere_is_not_replaced_by_a_note_that_opens_nothing() -> None:
    scene = Scene()
    prepared = scene.a.wallet.spender.pay([Payee(scene.b.wallet.paycode(), UNC, b"")], Fee(1))
    made = scene.a.wallet.finish(prepared)
    scene.a.wallet.record(made, 0)
    with pytest.raises(NoSuchTransferError, match="made elsewhere"):
        scene.a.wallet.spender.bump(made.sized.txid, Fee(5))


def test_what_was_altered_in_a_backup_is_not_signed_anew() -> None:
    scene = Scene()
    first = scene.a.pay(scene.b.wallet.paycode(), UNC // 2)
    store = scene.a.wallet.store
    thief = scene.a.wallet.paycode()
    altered = [msgspec.structs.replace(payee, payee=thief) for payee in first.payees]
    note = OutgoingNote(tuple(altered), first.change, first.secrets)
    sized = SizedTransfer.from_bytes(first.raw)
    finds = TransferFinds(sized.txid, 0, sized.transfer.outputs, (), (), ())
    store.put_outgoing(sized, note, finds, 0)
    with pytest.raises(NoSuchTransferError, match="nothing shows that output"):
        scene.a.wallet.spender.bump(first.txid, Fee(3))
    outputs = tuple(msgspec.structs.replace(one, lock=bytes(32)) for one in sized.transfer.outputs)
    forged = SizedTransfer.of(msgspec.structs.replace(sized.transfer, outputs=outputs))
    finds = msgspec.structs.replace(finds, txid=forged.txid, outputs=outputs)
    store.put_outgoing(forged, OutgoingNote((), None), finds, 0)
    with pytest.raises(NoSuchTransferError, match="not signed by its owner's keys"):
        scene.a.wallet.spender.bump(forged.txid, Fee(3))


def test_what_somebody_else_has_signed_well_is_not_signed_anew() -> None:
    scene = Scene()
    thief = scene.b.wallet.account().key_hash
    coin = scene.a.wallet.store.coins()[0]
    value = coin.value - 5_000
    unsigned = Unsigned(
        REG.chain_id,
        0,
        5_000,
        (Input(coin.coin_id, KeyCondition(thief).to_bytes(), bytes(32)),),
        (coin.value,),
        (Output(value, address_lock(thief), b""),),
        (),
        (),
    )
    sized = scene.b.wallet.sign(unsigned).finish(REG).sized
    # as in the database of an altered backup, which says that it pays a friend
    note = OutgoingNote((Payee(scene.a.wallet.address(), value, b""),), None)
    finds = TransferFinds(sized.txid, 5_000, sized.transfer.outputs, (coin.coin_id,), (), ())
    scene.a.wallet.store.put_outgoing(sized, note, finds, 0)
    with pytest.raises(NoSuchTransferError, match="not signed by this wallet's keys"):
        scene.a.wallet.spender.bump(sized.txid, Fee(3))


def test_what_is_noted_for_another_payee_is_not_signed_anew() -> None:
    scene = Scene()
    first = scene.a.pay(scene.b.wallet.address(), UNC // 2)
    sized = SizedTransfer.from_bytes(first.raw)
    friend = [msgspec.structs.replace(one, payee=scene.a.wallet.address()) for one in first.payees]
    finds = TransferFinds(sized.txid, 0, sized.transfer.outputs, (), (), ())
    note = OutgoingNote(tuple(friend), first.change, first.secrets)
    scene.a.wallet.store.put_outgoing(sized, note, finds, 0)
    with pytest.raises(NoSuchTransferError, match="nothing shows that output"):
        scene.a.wallet.spender.bump(first.txid, Fee(3))


def test_a_replaced_consolidation_still_pays_the_wallet() -> None:
    scene = Scene()
    (joined,) = scene.a.wallet.spender.consolidate(Fee(1))
    first = scene.a.send(joined)
    bumped = scene.a.wallet.spender._drafts_of(first, Transfer.from_bytes(first.raw))
    assert [draft.value for draft in bumped] == [4 * UNC - first.fee]
    assert bumped[0].note_size == 1_360


def test_a_replacement_takes_more_coins_where_it_must() -> None:
    scene = Scene(2)
    to = scene.b.wallet.address()
    (first_coin, _) = scene.a.wallet.store.coins()
    spender = scene.a.wallet.spender
    value = UNC - 20_000
    prepared = spender.pay([Payee(to, value, b"")], Fee(1), coins=[first_coin.coin_id])
    first = scene.a.send(prepared)
    second = scene.a.send(spender.bump(first.txid, Fee(10)))
    assert len(scene.a.wallet.store.outgoing(second.txid).raw) > len(first.raw)
    scene.mine()
    assert scene.b.balance.confirmed == value


def test_a_replacement_pays_for_what_it_evicts() -> None:
    scene = Scene(1)
    first = scene.a.pay(scene.b.wallet.paycode(), UNC // 4)
    second = scene.a.pay(scene.b.wallet.paycode(), UNC // 4, rate=9)
    with pytest.raises(BadPaymentError):
        scene.a.wallet.spender.bump(first.txid, Fee(2))
    scene.a.send(scene.a.wallet.spender.bump(first.txid, Fee(12)))
    assert scene.a.wallet.store.outgoing(second.txid).state is OutgoingState.CONFLICT
    assert scene.a.balance.leaving == UNC
    scene.mine()
    assert scene.b.balance.confirmed == UNC // 4


def test_a_refused_transfer_frees_its_coins() -> None:
    scene = Scene(1)
    sent = scene.a.pay(scene.b.wallet.paycode(), UNC // 4)
    before = scene.a.balance
    bumped = scene.a.wallet.spender.bump(sent.txid, Fee(3))
    cheap = msgspec.structs.replace(bumped.unsigned, fee=bumped.unsigned.fee - 20_000)
    change = bumped.change
    assert change is not None
    outputs = list(cheap.outputs)
    outputs[change] = msgspec.structs.replace(outputs[change], value=outputs[change].value + 20_000)
    cheap = msgspec.structs.replace(cheap, outputs=tuple(outputs))
    with pytest.raises(PolicyError):
        scene.a.send(msgspec.structs.replace(bumped, unsigned=cheap))
    scene.a.sync()
    assert scene.a.balance == before
    assert scene.a.wallet.store.outgoing(sent.txid).state is OutgoingState.WAITING


def test_an_abandoned_transfer_frees_its_coins_and_may_still_come() -> None:
    scene = Scene(1)
    wallet = scene.a.wallet
    prepared = wallet.spender.pay([Payee(scene.b.wallet.paycode(), UNC // 4, b"")], Fee(1))
    kept = wallet.record(wallet.finish(prepared), 0, payees=prepared.payees, change=prepared.change)
    assert [out.txid for out in wallet.store.unheard()] == [kept.txid]
    assert scene.a.balance.confirmed == 0
    wallet.abandon(kept.txid)
    assert scene.a.balance.confirmed == UNC
    assert scene.a.balance.pending == 0
    with pytest.raises(NoSuchTransferError):
        wallet.abandon(kept.txid)
    scene.chain.submit(kept.raw)
    scene.mine()
    assert scene.b.balance.confirmed == UNC // 4
    assert scene.a.balance.on_chain == UNC - UNC // 4 - kept.fee
    assert wallet.store.outgoing(kept.txid).height == 2
    with pytest.raises(NoSuchTransferError):
        wallet.store.outgoing(bytes(32))


# Signing elsewhere


def test_signs_on_a_machine_that_has_never_seen_the_chain() -> None:
    scene = Scene()
    words = scene.a.wallet.open_secret("pass").mnemonic()
    online = Purse(
        scene.chain,
        Wallet(
            "online",
            REG,
            Keystore.watch(REG, WatchExport.from_text(scene.a.wallet.export_watch(), REG).accounts),
            None,
        ),
    )
    online.sync()
    to = scene.b.wallet.paycode()
    prepared = online.wallet.spender.pay([Payee(to, UNC // 2, b"offline")], Fee(2))
    with pytest.raises(WatchOnlyError):
        online.wallet.finish(prepared)
    order = PaymentOrder((Payee(to, UNC // 2, b""),), Fee(2))
    with pytest.raises(WatchOnlyError):
        orders.plan(online.wallet, order, 0)
    assert online.wallet.summary(prepared.unsigned).can_sign == ()
    offline = cheap_wallet(secret=SpendSecret.of(words))
    unsigned = Unsigned.from_file(prepared.unsigned.to_file(), REG)
    summary = offline.summary(unsigned)
    assert summary.fee == prepared.unsigned.fee
    assert summary.spent == UNC
    assert sorted(out.own for out in summary.outputs) == [False, True]
    assert len(summary.can_sign) == 1
    signed = Unsigned.from_file(offline.sign(unsigned).to_file(), REG)
    assert offline.summary(signed).signed_by == summary.can_sign
    # signed once, it has nothing to add
    assert offline.summary(signed).can_sign == ()
    transfer = signed.finish(REG)
    # whoever hands it in is told whom it pays: himself, and the payer's change
    sent = orders.note_signed(scene.b.wallet, signed, 0).outgoing
    assert {payee.payee[:5]: payee.value for payee in sent.payees} == {
        to[:5]: UNC // 2,
        "lock:": UNC // 2 - sent.fee,
    }
    scene.b.wallet.note_changes(0)
    (received,) = scene.b.wallet.history_book.page(EVERYTHING, 1)
    assert (received.kind, received.payees) == (HistoryKind.RECEIVED, ())
    online.wallet.record(transfer, 0)
    scene.chain.submit(transfer.sized.raw)
    scene.mine()
    online.sync()
    assert scene.b.balance.confirmed == UNC // 2
    assert online.balance.on_chain == 4 * UNC - UNC // 2 - unsigned.fee


def test_the_signer_sees_whom_he_pays_by_his_own_computation() -> None:
    scene = Scene()
    spender_ = scene.a.wallet.spender
    stranger = cheap_wallet("stranger")
    contract = multisig(REG, 2, [scene.a.wallet.address(), stranger.address()])
    payees = [
        Payee(scene.b.wallet.paycode(), UNC // 4, b"rent"),
        Payee(scene.b.wallet.address(), UNC // 5, b""),
        Payee(contract.to_text(), UNC // 6, b""),
        Payee(scene.a.wallet.paycode(), UNC // 7, b"to myself"),
    ]
    prepared = spender_.pay(payees, Fee(1))
    offline = cheap_wallet(secret=SpendSecret.of(scene.a.wallet.open_secret("pass").mnemonic()))
    read = Unsigned.from_file(prepared.unsigned.to_file(), REG)
    summary = offline.summary(read)
    shown = {out.payee: out for out in summary.outputs}
    assert {payee.payee for payee in payees} | {""} == set(shown)
    assert [shown[payee.payee].value for payee in payees] == [payee.value for payee in payees]
    assert shown[payees[0].payee].memo == b"rent"
    assert [shown[payee.payee].own for payee in payees] == [False, False, False, True]
    assert shown[""].own  # the change
    # a contract is no property of the wallet's alone, though the wallet watches it
    offline.add_contract(contract, 0)
    again = {out.payee: out for out in offline.summary(read).outputs}
    assert not again[contract.to_text()].own
    assert again[contract.to_text()].terms.startswith("2 of 2 keys")
    # also where the machine that signs has never heard of it: its text could be made to look like
    # another's, its terms could not
    assert shown[contract.to_text()].terms == again[contract.to_text()].terms
    assert shown[payees[0].payee].fingerprint == fingerprint_of(payees[0].payee)
    assert len({out.fingerprint for out in summary.outputs if out.payee}) == len(payees)
    # the wallet that sends it remembers them
    signed = scene.a.wallet.sign(read)
    sent = scene.a.wallet.record(
        signed.finish(REG),
        0,
        payees=scene.a.wallet.payees_in(signed),
        proven_payees=signed.payees,
    )
    assert {payee.payee for payee in sent.payees} == {payee.payee for payee in payees}


def test_a_file_that_names_somebody_else_is_not_signed() -> None:
    scene = Scene()
    paycode, address = scene.b.wallet.paycode(), scene.b.wallet.address()
    other = cheap_wallet("other")
    prepared = scene.a.wallet.spender.pay(
        [Payee(paycode, UNC // 4, b"rent"), Payee(address, UNC // 5, b"")], Fee(1)
    )
    unsigned = prepared.unsigned
    first, second = unsigned.payees
    replace = msgspec.structs.replace
    for payees in (
        (replace(first, payee=other.paycode()), second),
        (replace(first, shared=bytes(32)), second),
        (replace(first, shared=b""), second),
        (first, replace(second, payee=other.address())),
        (first, replace(second, payee=paycode, shared=first.shared)),
        (first, replace(second, index=9)),
        (first, first),
        (second, first),
        (first, UnsignedPayee(second.index, "nobody", b"")),
    ):
        with pytest.raises(SigningError):
            Unsigned.from_file(replace(unsigned, payees=payees).to_file(), REG)
    # a place that the secret was not made for
    moved = replace(unsigned, outputs=unsigned.outputs[::-1])
    with pytest.raises(SigningError, match="does not pay whom"):
        Unsigned.from_file(moved.to_file(), REG)


def test_a_file_of_version_1_is_read_and_names_nobody() -> None:
    scene = Scene()
    prepared = scene.a.wallet.spender.pay([Payee(scene.b.wallet.paycode(), UNC // 4, b"")], Fee(1))
    members = msgspec.structs.astuple(prepared.unsigned)[:-1]
    read = Unsigned.from_file(UNSIGNED_NAME + b"\x01" + encode(members), REG)
    assert read == msgspec.structs.replace(prepared.unsigned, payees=())
    assert {out.payee for out in scene.b.wallet.summary(read).outputs} == {""}


def test_an_unsigned_file_cannot_lie() -> None:
    scene = Scene()
    unsigned = scene.a.wallet.spender.pay(
        [Payee(scene.b.wallet.address(), UNC // 2, b"")], Fee(1)
    ).unsigned
    replace = msgspec.structs.replace
    signed = scene.a.wallet.sign(unsigned)
    forged = replace(
        signed,
        fee=signed.fee - 1,
        outputs=(
            replace(signed.outputs[0], value=signed.outputs[0].value + 1),
            *signed.outputs[1:],
        ),
    )
    for wrong, why in (
        (replace(unsigned, fee=unsigned.fee + 1), "outputs and fee"),
        (replace(unsigned, values=()), "0 values for 1 coin"),
        (replace(unsigned, values=(unsigned.values[0] + 1,)), "outputs and fee"),
        (replace(unsigned, chain_id=LOCAL.chain_id), "another network.s"),
        (replace(unsigned, outputs=(Output(0, bytes(32), b""),)), "has the value 0"),
        (forged, "does not verify"),
    ):
        with pytest.raises(SigningError, match=why):
            Unsigned.from_file(wrong.to_file(), REG)
    for raw in (
        b"",
        b"x",
        UNSIGNED_NAME,
        UNSIGNED_NAME + b"\x01" + encode((1, 2)),
        UNSIGNED_NAME + b"\x02" + encode((1, 2)),
        UNSIGNED_NAME + b"\x03" + encode((1, 2)),
        unsigned.to_file() + b"\x00",
    ):
        with pytest.raises(SigningError):
            Unsigned.from_file(raw, REG)
    with pytest.raises(SigningError, match="a signature is missing"):
        unsigned.finish(REG)
    other = scene.a.wallet.spender.pay(
        [Payee(scene.b.wallet.address(), UNC // 3, b"")], Fee(1)
    ).unsigned
    with pytest.raises(SigningError, match="different transfers"):
        unsigned.merge([other])
    assert unsigned.merge([signed, signed]).finish(REG) == signed.finish(REG)
    scene.a.wallet.lock()
    with pytest.raises(WalletLockedError):
        scene.a.wallet.sign(unsigned)


# Contracts


@pytest.mark.parametrize("watched", [False, True])
def test_a_contract_laid_beside_another_takes_nothing_back(watched: bool) -> None:
    scene = Scene()
    shared = multisig(REG, 2, [scene.a.wallet.address(), scene.b.wallet.address()])
    # the victim's own key is among those of the thief's contract
    thiefs = multisig(REG, 1, [scene.a.wallet.address(), scene.b.wallet.address()])
    scene.a.wallet.add_contract(shared, 0)
    scene.a.pay(shared.to_text(), UNC)
    scene.mine()
    made = scene.a.wallet.spender.from_contract(
        shared, Fee(1), payees=[Payee(scene.b.wallet.paycode(), UNC // 4, b"")]
    ).unsigned
    outputs = [
        Output(out.value + 1_000 if (stays := out.lock == shared.lock) else out.value,
               thiefs.lock if stays else out.lock, out.note)
        for out in made.outputs
    ]  # fmt: skip
    beside = Input(bytes(32), thiefs.condition, thiefs.salt)
    unsigned = msgspec.structs.replace(
        made,
        inputs=(*made.inputs, beside),
        values=(*made.values, 1_000),
        outputs=tuple(outputs),
    )
    if watched:
        scene.a.wallet.add_contract(thiefs, 0)
    told = {out.lock: out.returns for out in scene.a.wallet.summary(unsigned).outputs}
    assert told[thiefs.lock] is watched
    assert not any(back for lock, back in told.items() if lock != thiefs.lock)


def test_two_of_three_sign_apart() -> None:
    scene = Scene()
    c = Purse(scene.chain, cheap_wallet("c"))
    parties = [scene.a, scene.b, c]
    contract = multisig(REG, 2, [party.wallet.address() for party in parties])
    for party in parties:
        party.wallet.add_contract(contract, 0)
    scene.a.pay(contract.to_text(), UNC)
    scene.mine()
    c.sync()
    prepared = c.wallet.spender.from_contract(
        contract, Fee(1), payees=[Payee(c.wallet.paycode(), UNC // 4, b"share")]
    )
    # what stays under the contract is named as the contract's, by what each signer calls it
    scene.a.wallet.label("contract", contract.lock, "the boat")
    for party, called in ((scene.a, "the boat"), (c, "")):
        outputs = party.wallet.summary(prepared.unsigned).outputs
        (change,) = [out for out in outputs if out.lock == contract.lock]
        assert (change.returns, change.own, change.contract) == (True, False, called)
        assert change.terms.startswith("2 of 3 keys")
        assert [out.returns for out in outputs if out is not change] == [False]
    shares = [party.wallet.sign(prepared.unsigned) for party in parties]
    with pytest.raises(SigningError, match=r"^a signature is missing: let whoever"):
        shares[0].finish(REG)
    with pytest.raises(SigningError, match=r"^2 signatures are missing"):
        prepared.unsigned.finish(REG)
    # a third signature is of no use, and left out
    transfer = shares[2].merge([shares[0], shares[1]]).finish(REG)
    assert len(transfer.sized.transfer.signatures) == 2
    c.wallet.record(transfer, 0, change=prepared.change)
    scene.chain.submit(transfer.sized.raw)
    scene.mine()
    c.sync()
    assert c.balance.confirmed == UNC // 4
    for party in parties:
        party.sync()
        held = party.wallet.contract(contract.lock).value
        assert held == UNC - UNC // 4 - transfer.sized.transfer.fee
    with pytest.raises(ContractError, match="only a hash-time-lock"):
        c.wallet.refund(contract.lock, Fee(1))


def test_a_hash_time_lock_is_claimed_and_its_preimage_seen() -> None:
    scene = Scene()
    made = hash_time_lock(REG, scene.b.wallet.address(), scene.a.wallet.address(), 50)
    lock = made.contract.lock
    scene.a.wallet.add_contract(made.contract, 0)
    scene.b.wallet.add_contract(made.contract, 0)
    with pytest.raises(ContractError, match="preimage of the contract's hash is not known"):
        scene.b.wallet.claim(lock, Fee(1))
    scene.b.wallet.add_contract(made.contract, 0, preimage=made.preimage)
    with pytest.raises(ContractError, match="no confirmed coins"):
        scene.b.wallet.claim(lock, Fee(1))
    stranger = Purse(scene.chain, cheap_wallet("c"))
    stranger.wallet.add_contract(made.contract, 0)
    scene.a.pay(made.contract.to_text(), UNC // 2)
    scene.mine()
    a_can = "this wallet can take it back from height 50 on"
    for preimage in (None, made.preimage):
        with pytest.raises(ContractError, match=f"only the other side can claim it; {a_can}"):
            scene.a.wallet.claim(lock, Fee(1), preimage=preimage)
    with pytest.raises(ContractError, match="take it back; this wallet can claim it with the"):
        scene.b.wallet.refund(lock, Fee(1))
    with pytest.raises(ContractError, match="take it back; this wallet has no key of it"):
        stranger.wallet.refund(lock, Fee(1))
    with pytest.raises(ContractError, match="does not fit"):
        scene.b.wallet.claim(lock, Fee(1), preimage=bytes(32))
    with pytest.raises(ContractError, match="from height 50"):
        scene.a.wallet.refund(lock, Fee(1))
    claimed = scene.b.send(scene.b.wallet.claim(lock, Fee(1)))
    scene.a.sync()
    # already from the mempool
    assert scene.a.wallet.contract(lock).preimage == made.preimage
    scene.mine()
    assert scene.b.balance.confirmed == UNC // 2 - claimed.fee
    assert scene.a.wallet.contract(lock).value == 0
    assert scene.b.wallet.contracts()[0].coins[0].spent_by == claimed.txid


def test_a_hash_time_lock_is_refunded_at_its_height() -> None:
    scene = Scene()
    made = hash_time_lock(REG, scene.b.wallet.address(), scene.a.wallet.address(), 8)
    scene.a.wallet.add_contract(made.contract, 0)
    scene.b.wallet.add_contract(made.contract, 0)
    with pytest.raises(ContractError, match="preimage of the contract's hash is not known"):
        scene.b.wallet.claim(made.contract.lock, Fee(1))
    scene.a.pay(made.contract.to_text(), UNC // 2)
    scene.mine(3)
    refunded = scene.a.send(scene.a.wallet.refund(made.contract.lock, Fee(1)))
    scene.mine()
    assert scene.chain.height == 8
    assert scene.a.wallet.store.outgoing(refunded.txid).height == 8
    with pytest.raises(ContractError, match="party to no contract"):
        scene.b.wallet.contract(bytes(32))
    elsewhere = hash_time_lock(
        LOCAL, cheap_wallet(network=LOCAL).address(), cheap_wallet(network=LOCAL).address(), 8
    )
    with pytest.raises(ContractError, match="another network"):
        scene.b.wallet.add_contract(elsewhere.contract, 0)


def test_a_contract_worth_less_than_its_fee() -> None:
    scene = Scene()
    contract = multisig(REG, 1, [scene.a.wallet.address()])
    scene.a.wallet.add_contract(contract, 0)
    scene.a.pay(contract.to_text(), 5_000)
    scene.mine()
    with pytest.raises(InsufficientFundsError):
        scene.a.wallet.spender.from_contract(contract, Fee(1))
    scene.a.pay(contract.to_text(), 6_000)
    scene.mine()
    with pytest.raises(InsufficientFundsError):
        scene.a.wallet.spender.from_contract(contract, Fee(2))


def test_the_size_is_never_underestimated() -> None:
    """Whatever is paid, the bound on the size holds, and is close."""
    scene = Scene(0)
    for _ in range(4):
        scene.chain.mine(*[scene.a.mine_to] * 40)
    scene.sync()
    for count, value in ((1, UNC), (3, 20 * UNC), (60, UNC // 50)):
        payees = [Payee(scene.b.wallet.paycode(), value, b"m" * 247)] * count
        sent = scene.a.send(scene.a.wallet.spender.pay(payees, Fee(1)))
        assert sent.size <= sent.fee <= sent.size + 60 + 12 * count


# Fees that look like mistakes


@pytest.mark.parametrize(
    "fee",
    [Fee(exact=UNC // 5), Fee(rate=101), Fee(rate=20_000)],
    ids=["a fifth of the amount", "101 times the estimate", "a rate"],
)
def test_a_fee_that_looks_like_a_mistake_is_refused_unless_it_is_meant(fee: Fee) -> None:
    scene = Scene()
    payee = Payee(scene.b.wallet.address(), UNC, b"")
    with pytest.raises(HighFeeError, match="allow_high_fee"):
        scene.a.wallet.spender.pay([payee], fee)
    if fee.rate < 20_000:
        meant = msgspec.structs.replace(fee, allow_high=True)
        assert scene.a.wallet.spender.pay([payee], meant).unsigned.fee


def test_a_fee_guard_stands_before_every_way_to_pay() -> None:
    scene = Scene()
    high = Fee(rate=101)
    maker = scene.a.wallet.spender
    contract = multisig(REG, 1, [scene.a.wallet.address()])
    scene.a.wallet.add_contract(contract, 0)
    sent = scene.a.pay(contract.to_text(), UNC)
    waiting = scene.a.pay(scene.b.wallet.address(), UNC)
    with pytest.raises(HighFeeError):
        maker.bump(waiting.txid, high)
    scene.mine()
    assert sent.txid
    for pay in (
        lambda: maker.sweep(scene.b.wallet.address(), high),
        lambda: maker.consolidate(high),
        lambda: maker.from_contract(contract, high),
    ):
        with pytest.raises(HighFeeError):
            pay()


def test_the_least_fee_is_never_too_high() -> None:
    scene = Scene()
    payee = Payee(scene.b.wallet.address(), 1_000, b"")
    assert scene.a.wallet.spender.pay([payee], Fee()).unsigned.fee > 100


@pytest.mark.parametrize("fee", [Fee(rate=5, estimate=5), Fee(rate=5), Fee(exact=40_000)])
def test_a_fee_above_a_tenth_is_refused_whoever_chose_it(fee: Fee) -> None:
    """A crowded mempool, or who crowds it, makes nobody pay most of an amount for its fee."""
    scene = Scene()
    payee = Payee(scene.b.wallet.address(), 100_000, b"")
    with pytest.raises(HighFeeError, match="a tenth of the amount"):
        scene.a.wallet.spender.pay([payee], fee)
    meant = msgspec.structs.replace(fee, allow_high=True)
    assert scene.a.wallet.spender.pay([payee], meant).unsigned.fee


def test_a_replacement_does_not_spend_the_change_of_what_it_replaces() -> None:
    scene = Scene(coins=1)
    scene.mine(REG.maturity)
    first = scene.a.pay(scene.b.wallet.address(), UNC // 2)
    with pytest.raises(InsufficientFundsError):
        # no coin but the change of the transfer that is replaced could pay so much more
        scene.a.wallet.spender.bump(first.txid, Fee(exact=UNC * 6 // 10, allow_high=True))


# Locks that anybody can pay


def test_a_coin_mined_to_a_contract_does_not_keep_it_from_being_spent() -> None:
    network = msgspec.structs.replace(REG, maturity=4)
    scene = Scene(8, network)
    contract = multisig(network, 1, [scene.a.wallet.address()])
    scene.a.wallet.add_contract(contract, 0)
    scene.a.pay(contract.to_text(), UNC)
    scene.mine()
    scene.chain.mine(lambda _parent, _time: contract.lock)
    scene.sync()
    prepared = scene.a.wallet.spender.from_contract(contract, Fee())
    assert prepared.unsigned.values == (UNC,)


def test_dust_does_not_keep_a_contract_from_being_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_INPUTS", 4)
    scene = Scene()
    contract = multisig(REG, 1, [scene.a.wallet.address()])
    scene.a.wallet.add_contract(contract, 0)
    dust = [Payee(contract.to_text(), 1_000 + step, b"") for step in range(9)]
    scene.a.send(scene.a.wallet.spender.pay(dust, Fee()))
    scene.mine()
    scene.a.pay(contract.to_text(), UNC)
    scene.mine()
    prepared = scene.a.wallet.spender.from_contract(contract, Fee())
    assert prepared.unsigned.values.count(UNC) == 1
    assert len(prepared.unsigned.values) == 4
    # at a higher rate dust is worth less than its fee
    alone = scene.a.wallet.spender.from_contract(contract, Fee(rate=50, estimate=50))
    assert alone.unsigned.values == (UNC,)
    named = min(scene.a.wallet.contract(contract.lock).coins, key=lambda coin: coin.value)
    with pytest.raises(InsufficientFundsError):
        scene.a.wallet.spender.from_contract(contract, Fee(), named=[named.coin_id])
    with pytest.raises(NoSuchCoinError):
        scene.a.wallet.spender.from_contract(contract, Fee(), named=[bytes(32)])


def test_dust_does_not_hide_coins_from_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spender, "MAX_TRANSFERS", 1)
    monkeypatch.setattr(spender, "MAX_INPUTS", 2)
    scene = Scene()
    scene.b.sync()
    to = scene.b.wallet.address()
    dust = [Payee(to, 1_000 + step, b"") for step in range(5)]
    scene.a.send(scene.a.wallet.spender.pay(dust, Fee()))
    scene.mine()
    scene.a.pay(to, UNC)
    scene.mine()
    (step,) = scene.b.wallet.spender.sweep(scene.a.wallet.address(), Fee())
    assert UNC in step.unsigned.values
    smallest = min(scene.b.wallet.store.coins(), key=lambda coin: coin.value)
    with pytest.raises(NothingToDoError):
        scene.b.wallet.spender.sweep(scene.a.wallet.address(), Fee(), coins=[smallest.coin_id])


def test_the_least_that_replaces_a_transfer_is_found() -> None:
    scene = Scene()
    first = scene.a.pay(scene.b.wallet.paycode(), UNC // 2, rate=3)
    scene.a.send(scene.a.wallet.spender.pay([Payee(scene.b.wallet.address(), 10**6, b"")], Fee(2)))
    with pytest.raises(BadPaymentError, match="does not replace") as caught:
        scene.a.wallet.spender.bump(first.txid, Fee(2))
    least = int(str(caught.value).rpartition("a rate of ")[2].split()[0])
    made = scene.a.wallet.spender.bump(first.txid, Fee(2), at_least=True)
    assert made.fee_rate == least > 3
    assert scene.a.wallet.spender.bump(first.txid, Fee(50), at_least=True).fee_rate == 50
    assert scene.a.send(made).replaces == first.txid


def test_what_is_too_little_to_come_back_is_told_where_the_payees_bear_the_fee() -> None:
    scene = Scene(1)
    to = scene.b.wallet.address()
    spender = scene.a.wallet.spender
    whole = spender.pay([Payee(to, UNC, b"")], Fee(1), subtract_fee=True)
    assert not whole.warning
    nearly = spender.pay([Payee(to, UNC - 910, b"")], Fee(1), subtract_fee=True)
    assert nearly.change is None
    assert nearly.payees[0].value + nearly.unsigned.fee == UNC
    assert "0.0000091 UNC more than the amount" in nearly.warning


def test_who_has_nothing_to_gather_is_told_what_there_is() -> None:
    scene = Scene(1)
    with pytest.raises(NothingToDoError, match=r"no coins that can be spent$"):
        scene.b.wallet.spender.sweep(scene.a.wallet.address(), Fee(1))
    scene.a.pay(scene.b.wallet.address(), UNC // 2)
    with pytest.raises(NothingToDoError, match=r"be spent \(1 UNC leaving, 0\.4[0-9]* UNC pending"):
        scene.a.wallet.spender.sweep(scene.b.wallet.address(), Fee(1))
