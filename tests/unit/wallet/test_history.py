"""What a wallet tells of what came and went, and the log of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.framework.vectors import VECTORS
from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.wallet import event_records, user_records
from unchained.node.wallet.contracts import multisig
from unchained.node.wallet.errors import EventsForgottenError, NothingKnownError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.history import HistoryFilter
from unchained.node.wallet.keystore import Keystore, SpendSecret, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.orders import note_signed
from unchained.node.wallet.payee_book import PayeeBook
from unchained.node.wallet.records import (
    HistoryEntry,
    HistoryKind,
    HistoryStatus,
    OutgoingNote,
    Payee,
    PaymentSecret,
)
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.watch_export import WatchExport

UNC = 10**8


def purses(chain: WalletChain, count: int = 2, accounts: int = 1) -> list[Purse]:
    return [Purse(chain, cheap_wallet(f"w{at}", accounts=accounts)) for at in range(count)]


def sync(*purses: Purse) -> None:
    for purse in purses:
        purse.sync()


def names(purse: Purse, since: int = 0) -> list[str]:
    return [event.change.name for event in purse.wallet.events.since(since, 1_000)]


def entry(purse: Purse, key: bytes) -> HistoryEntry:
    return purse.wallet.history_book.entry(key)


def test_says_what_an_entry_is_and_what_it_moved() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(2, a.mine_to)
    a.sync()
    paid = a.pay(b.wallet.paycode(), UNC // 4, b"bread")
    chain.mine()
    sync(a, b)
    moved = a.pay(a.wallet.address(), UNC // 8)
    assert (entry(a, paid.txid).kind, entry(a, paid.txid).net) == (
        HistoryKind.PAID,
        -UNC // 4 - paid.fee,
    )
    assert entry(a, paid.txid).payees[0].memo == b"bread"
    got = entry(b, paid.txid)
    assert (got.kind, got.net, got.fee, got.account) == (HistoryKind.RECEIVED, UNC // 4, None, 0)
    own = entry(a, moved.txid)
    assert (own.kind, own.net, own.status) == (
        HistoryKind.MOVED,
        -moved.fee,
        HistoryStatus.WAITING,
    )
    assert [one.kind for one in a.wallet.history()] == [
        HistoryKind.MOVED,
        HistoryKind.PAID,
        HistoryKind.MINED,
        HistoryKind.MINED,
    ]


def test_a_restored_wallet_knows_time_fee_and_locks_of_what_it_paid() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(1, a.mine_to)
    a.sync()
    sent = a.pay(b.wallet.address(), UNC - 20_000)
    chain.mine()
    words = a.wallet.open_secret("pass").mnemonic()
    again = Purse(chain, cheap_wallet(secret=SpendSecret.of(words)))
    again.sync()
    found = entry(again, sent.txid)
    assert found.fee == sent.fee
    assert found.time_ms == chain.packages[-1][1].anchor.header.time
    assert [payee.value for payee in found.payees] == [UNC - 20_000]
    assert found.payees[0].payee.startswith("lock:")
    assert found.kind is HistoryKind.PAID


def test_who_prepared_or_signed_what_others_send_knows_whom_it_pays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_records, "UNSENT_KEPT", 3)
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(3, a.mine_to)
    a.sync()
    exported = WatchExport.from_text(a.wallet.export_watch(), REG).accounts
    watch = Purse(chain, Wallet("watch", REG, Keystore.watch(REG, exported), None))
    watch.sync()
    bread = Payee("bob", UNC // 4, b"bread")
    cake = Payee(b.wallet.address(), UNC // 8, b"")
    PayeeBook(watch.wallet.store, REG).add("bob", b.wallet.paycode())
    PayeeBook(a.wallet.store, REG).add("robert", b.wallet.paycode())
    for of in range(2):
        unsigned = watch.wallet.spender.pay([bread, cake], Fee(1)).unsigned
        # by the one the file is prepared, by the other it is signed; somebody else sends it
        watch.wallet.keep_payees(unsigned)
        signed = a.wallet.sign(unsigned)
        a.wallet.keep_payees(signed)
        b.wallet.keep_payees(unsigned)
        proven = signed.finish(REG)
        chain.submit(proven.sized.raw)
        chain.mine()
        sync(a, b, watch)
        for purse, name in ((a, "robert"), (watch, "bob")):
            found = entry(purse, proven.sized.txid)
            assert found.kind is HistoryKind.PAID
            assert {(it.payee, it.value, it.memo, it.name) for it in found.payees} == {
                (b.wallet.paycode(), UNC // 4, b"bread", name),
                (b.wallet.address(), UNC // 8, b"", ""),
            }
        got = entry(b, proven.sized.txid)
        assert (got.kind, got.payees) == (HistoryKind.RECEIVED, ())
        # what is never sent is not kept for ever; what was sent is
        for _ in range(2 + of):
            made = watch.wallet.spender.pay([cake], Fee(1)).unsigned
            watch.wallet.keep_payees(made)
    kept = watch.wallet.store.rows("SELECT count(*) FROM labels WHERE kind = 'payees'")[0][0]
    assert 2 < kept <= 2 + 3
    assert entry(watch, proven.sized.txid).payees


def test_of_what_nobody_has_sent_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_records, "UNSENT_KEPT", 3)
    store = cheap_wallet().store
    note = OutgoingNote((Payee("unc1somebody", 5, b""),), None)
    first, *others = (bytes([number]) * 32 for number in (9, 4, 7, 2, 8))
    store.keep_payees(first, note)
    for txid in others:
        # what waits for its signers comes back, each time that one has signed
        store.keep_payees(txid, note)
        store.keep_payees(first, note)
    kept = [txid for txid in (first, *others) if store.kept_payees(txid)]
    assert kept == [first, *others[-2:]]


def test_what_names_whom_a_transfer_pays_is_kept_before_what_names_locks() -> None:
    store = cheap_wallet().store
    paycode = Payee("unc1somebody", 5, b"rent", "landlord")
    poor = OutgoingNote((Payee("lock:" + "11" * 32, 5, b""),), None)
    rich = OutgoingNote((paycode,), None, (PaymentSecret(0, bytes(32)),))
    for note in (poor, rich, poor):
        store.keep_payees(b"t" * 32, note)
    kept = store.kept_payees(b"t" * 32)
    assert kept is not None
    assert (kept.payees, kept.secrets) == (rich.payees, rich.secrets)


def test_what_was_kept_without_an_order_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_records, "UNSENT_KEPT", 2)
    store = cheap_wallet().store
    note = OutgoingNote((Payee("unc1somebody", 5, b""),), None)
    old, *others = (bytes([number]) * 32 for number in (9, 4, 7))
    store.run("INSERT INTO labels VALUES (?, ?, ?)", "payees", old, store.sealer.seal(note, old))
    assert store.kept_payees(old) is not None
    for txid in others:
        store.keep_payees(txid, note)
    assert store.kept_payees(old) is None
    assert all(store.kept_payees(txid) for txid in others)


def test_what_is_sent_of_a_contract_for_others_is_no_payment_of_nothing() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    shared = multisig(REG, 2, [a.wallet.address(), b.wallet.address()])
    for purse in (a, b):
        purse.wallet.add_contract(shared, 0)
    chain.grow(2, a.mine_to)
    a.sync()
    a.pay(shared.to_text(), UNC // 2)
    chain.mine()
    sync(a, b)
    stranger = cheap_wallet("stranger").address()
    PayeeBook(b.wallet.store, REG).add("baker", stranger)
    made = a.wallet.spender.from_contract(shared, Fee(1), payees=[Payee(stranger, UNC // 8, b"")])
    both = b.wallet.sign(a.wallet.sign(made.unsigned))
    sent = note_signed(b.wallet, both, 0)
    chain.submit(sent.outgoing.raw)
    for status in (HistoryStatus.WAITING, HistoryStatus.INCLUDED):
        sync(a, b)
        found = entry(b, sent.outgoing.txid)
        assert (found.kind, found.net, found.status) == (HistoryKind.CONTRACT, 0, status)
        assert [(it.payee, it.value, it.name) for it in found.payees] == [
            (stranger, UNC // 8, "baker")
        ]
        chain.mine()


def test_a_wallet_that_noted_it_as_a_payment_of_nothing_calls_it_what_it_is(
    tmp_path: Path,
) -> None:
    chain = WalletChain()
    save_new(Keystore.create(REG, new_secret(), "pass", cost=CHEAP), tmp_path, "w")
    wallet = Wallet.open(tmp_path, "w", REG)
    wallet.unlock("pass")
    a, b = Purse(chain, cheap_wallet()), Purse(chain, wallet)
    shared = multisig(REG, 1, [a.wallet.address(), b.wallet.address()])
    b.wallet.add_contract(shared, 0)
    chain.grow(3, a.mine_to, b.mine_to)
    sync(a, b)
    a.pay(shared.to_text(), UNC // 2)
    chain.mine()
    sync(a, b)
    payment = b.pay(a.wallet.paycode(), UNC // 4)
    stranger = Payee(cheap_wallet("stranger").address(), UNC // 8, b"")
    sent = b.send(b.wallet.spender.from_contract(shared, Fee(1), payees=[stranger]))
    chain.mine()
    b.sync()
    last = wallet.events.last
    for txid in (sent.txid, payment.txid):
        wallet.store.run("UPDATE history SET kind = ? WHERE key = ?", HistoryKind.PAID, txid)
    wallet.close()
    again = Wallet.open(tmp_path, "w", REG)
    kinds = {found.key: found.kind for found in again.history()}
    assert kinds[sent.txid] is HistoryKind.CONTRACT
    assert kinds[payment.txid] is HistoryKind.PAID
    assert again.events.last == last
    again.close()


def test_what_a_reorganisation_undoes_is_told_and_told_again_when_it_comes_back() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(2, a.mine_to)
    sync(a, b)
    other = chain.fork(1, seed=7)
    sent = a.pay(b.wallet.paycode(), UNC // 2)
    b.sync()
    chain.mine()
    b.sync()
    a.sync()
    assert names(b) == ["transfer.waiting", "transfer.included"]
    seen_a, seen_b = a.wallet.events.last, b.wallet.events.last
    other.grow(4)
    chain.adopt(other)
    sync(a, b)
    # the coin that it spends was mined on the branch that lost
    assert names(a, seen_a) == ["transfer.undone", "coin.undone"]
    (undone,) = b.wallet.events.since(seen_b, 10)
    assert (undone.change.name, undone.change.undone_height) == ("transfer.undone", 3)  # type: ignore[union-attr]
    assert b.wallet.history() == []
    assert entry(b, sent.txid).status is HistoryStatus.GONE
    assert entry(a, sent.txid).status is HistoryStatus.CONFLICT
    assert [one.key for one in b.wallet.history_book.changed_since(seen_b, 10)] == [sent.txid]


def test_what_is_abandoned_or_replaced_is_told() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(1, a.mine_to)
    a.sync()
    first = a.pay(b.wallet.paycode(), UNC // 2)
    second = a.send(a.wallet.spender.bump(first.txid, Fee(9)))
    b.sync()
    assert entry(a, first.txid).status is HistoryStatus.REPLACED
    a.wallet.abandon(second.txid)
    assert [one.status for one in a.wallet.history()] == [
        HistoryStatus.WAITING,
        HistoryStatus.INCLUDED,
    ]
    a.wallet.store.clear_waiting()
    assert [one.kind for one in a.wallet.history()] == [HistoryKind.MINED]
    assert entry(a, second.txid).status is HistoryStatus.ABANDONED
    assert names(a) == [
        "coin.mined",
        "transfer.waiting",
        "transfer.replaced",
        "transfer.waiting",
        "transfer.abandoned",
    ]


def test_the_log_has_no_gaps_and_says_when_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_records, "EVENTS_KEPT", 5)
    chain = WalletChain()
    (a,) = purses(chain, 1)
    for _ in range(9):
        chain.mine(a.mine_to)
        a.sync()
    events = a.wallet.events
    assert [event.sequence for event in events.since(4, 100)] == [5, 6, 7, 8, 9]
    assert [event.sequence for event in events.since(4, 2)] == [5, 6]
    assert events.since(9, 100) == []
    for wrong in (3, 10):
        with pytest.raises(EventsForgottenError):
            events.since(wrong, 100)


def test_filters_and_pages() -> None:
    chain = WalletChain()
    a, b = purses(chain, accounts=2)
    chain.grow(5, a.mine_to)
    a.sync()
    both = a.send(
        a.wallet.spender.pay(
            [Payee(b.wallet.paycode(0), UNC, b""), Payee(b.wallet.paycode(1), UNC // 2, b"")],
            Fee(1),
        )
    )
    chain.mine()
    one = a.pay(b.wallet.paycode(1), UNC // 4)
    chain.mine()
    sync(a, b)

    def keys(purse: Purse, **wanted: object) -> list[bytes]:
        return [
            found.key
            for found in purse.wallet.history(wanted=HistoryFilter(**wanted))  # type: ignore[arg-type]
        ]

    assert keys(b, account=0) == [both.txid]
    assert keys(b, account=1) == [one.txid, both.txid]
    shares = [b.wallet.history(wanted=HistoryFilter(account=at))[-1].net for at in (0, 1)]
    assert shares == [UNC, UNC // 2]
    assert keys(a, kinds=(HistoryKind.PAID,)) == [one.txid, both.txid]
    times = [found.time_ms or 0 for found in a.wallet.history()]
    assert keys(a, since_ms=times[1]) == [one.txid, both.txid]
    assert len(keys(a, until_ms=times[1])) == 5
    a.wallet.label("transfer", both.txid, "The Bakery")
    a.wallet.label("coin", a.wallet.history()[-1].key, "bakery's first")
    assert keys(a, label="bakery") == [both.txid, a.wallet.history()[-1].key]
    whole = [found.key for found in a.wallet.history()]
    pages: list[bytes] = []
    while page := a.wallet.history(2, after=pages[-1] if pages else None):
        pages += [found.key for found in page]
    assert pages == whole
    with pytest.raises(NothingKnownError):
        a.wallet.history(after=bytes(32))


def test_mined_coins_by_day() -> None:
    chain = WalletChain()
    a, _ = purses(chain)
    chain.grow(2, a.mine_to)
    chain.now_ms += 86_400_000
    chain.grow(3, a.mine_to)
    a.sync()
    days = a.wallet.history_book.mined(HistoryFilter(), 10)
    assert [(day.coins, day.received) for day in days] == [(3, 3 * UNC), (2, 2 * UNC)]
    assert [(day.first_height, day.last_height) for day in days] == [(3, 5), (1, 2)]
    assert days[0].day_ms - days[1].day_ms == 86_400_000


def test_a_file_of_layout_2_has_its_history(tmp_path: Path) -> None:
    for file in (VECTORS / "wallet-db-2").iterdir():
        shutil.copy(file, tmp_path)
    wallet = Wallet.open(tmp_path, "kept", REG)
    found = wallet.history()
    assert [(one.kind, one.height, one.net) for one in found] == [
        (HistoryKind.PAID, None, -1_008_922),
        (HistoryKind.RECEIVED, 5, 10_000_000),
        (HistoryKind.PAID, 5, -50_010_282),
        (HistoryKind.MINED, 3, UNC),
        (HistoryKind.MINED, 2, UNC),
        (HistoryKind.MINED, 1, UNC),
    ]
    assert [one.fee for one in found[:3]] == [8_922, None, 10_282]
    assert all(one.time_ms for one in found)
    assert (found[1].memos, found[2].label) == ((b"tip",), "the bakery")
    wallet.close()
    Wallet.open(tmp_path, "kept", REG).close()
