"""What a wallet learns from the chain, through reorganisations, restarts and rescans."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.framework.wallets import CHEAP, Purse, WalletChain, cheap_wallet, reseal
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.crypto.addresses import address_lock
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.wallet import scanner
from unchained.node.wallet.contracts import multisig
from unchained.node.wallet.errors import (
    KeystoreCorruptError,
    NoSuchCoinError,
    NoSuchTransferError,
    StoreDamagedError,
    WrongPassphraseError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import Keystore, SpendSecret, new_secret
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.records import Origin, Outgoing
from unchained.node.wallet.resealing import NewPassphrase, OneMoreAccount
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.watch_export import WatchExport

UNC = 10**8


def purses(chain: WalletChain, count: int = 2) -> list[Purse]:
    return [Purse(chain, cheap_wallet(f"w{at}")) for at in range(count)]


def sync(*purses: Purse) -> None:
    for purse in purses:
        purse.sync()


def test_finds_what_it_mined() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(3, a.mine_to, b.mine_to)
    sync(a, b)
    assert a.balance.on_chain == b.balance.on_chain == 3 * UNC
    coins = a.wallet.store.coins()
    assert {coin.origin for coin in coins} == {Origin.MINTED}
    assert [coin.height for coin in coins] == [3, 2, 1]


def test_finds_coins_mined_to_its_address() -> None:
    chain = WalletChain()
    (a,) = purses(chain, 1)
    lock = address_lock(a.wallet.account().key_hash)
    chain.mine(lambda parent, time_ms: lock)
    sync(a)
    assert a.balance.on_chain == UNC
    a.pay(a.wallet.paycode(), UNC // 2)


def test_young_coins_are_immature() -> None:
    chain = WalletChain(LOCAL)
    a = Purse(chain, cheap_wallet(network=LOCAL))
    chain.mine(a.mine_to)
    sync(a)
    assert a.balance.immature == UNC
    chain.grow(3)
    sync(a)
    assert (a.balance.immature, a.balance.confirmed) == (0, UNC)
    a.pay(a.wallet.paycode(), UNC // 2)


def test_a_payment_waits_arrives_and_carries_its_memo() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(2, a.mine_to)
    sync(a)
    sent = a.pay(b.wallet.paycode(), UNC // 2, "für Brot".encode())
    sync(b)
    assert b.balance.pending == UNC // 2
    assert a.balance.leaving == UNC
    assert a.balance.pending == UNC // 2 - sent.fee
    chain.mine()
    sync(a, b)
    assert b.balance.confirmed == UNC // 2
    assert a.balance.on_chain == UNC * 3 // 2 - sent.fee
    (entry,) = b.wallet.history()
    assert entry.memos == ("für Brot".encode(),)
    assert (entry.received, entry.sent, entry.height) == (UNC // 2, 0, 3)
    mine = next(e for e in a.wallet.history() if e.key == sent.txid)
    assert (mine.sent - mine.received, mine.fee) == (UNC // 2 + sent.fee, sent.fee)
    assert mine.payees[0].value == UNC // 2


def test_a_reorganisation_undoes_a_payment_and_does_it_again() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(2, a.mine_to)
    sync(a, b)
    other = chain.fork(2, seed=7)
    a.pay(b.wallet.paycode(), UNC // 2)
    chain.mine(a.mine_to)
    sync(a, b)
    assert b.balance.confirmed == UNC // 2
    other.grow(2, b.mine_to, b.mine_to)
    chain.adopt(other)
    sync(a, b)
    # the transfer waits again
    assert (b.balance.confirmed, b.balance.pending) == (4 * UNC, UNC // 2)
    assert a.balance.leaving == UNC
    assert a.balance.on_chain + b.balance.on_chain == chain.core.ledger.supply
    chain.mine(b.mine_to)
    sync(a, b)
    assert b.balance.pending == 0
    assert a.balance.on_chain + b.balance.on_chain == chain.core.ledger.supply


def test_two_wallets_of_one_mnemonic_see_each_other_spend() -> None:
    chain = WalletChain()
    secret = new_secret()
    a = Purse(chain, cheap_wallet(secret=secret))
    twin = Purse(chain, cheap_wallet(secret=secret))
    other = cheap_wallet()
    chain.mine(a.mine_to)
    sync(a, twin)
    a.pay(other.paycode(), UNC // 2)
    sync(twin)
    assert twin.balance == a.balance
    with pytest.raises(NoSuchTransferError):
        twin.wallet.abandon(bytes(32))
    chain.mine()
    sync(a, twin)
    assert twin.balance == a.balance


def test_restores_from_the_mnemonic_alone() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(4, a.mine_to, b.mine_to)
    sync(a, b)
    a.pay(b.wallet.paycode(), UNC, b"one")
    a.pay(b.wallet.address(), UNC // 3)
    chain.mine(a.mine_to)
    sync(a, b)
    words = b.wallet.open_secret("pass").mnemonic()
    restored = Purse(chain, cheap_wallet(secret=SpendSecret.of(words)))
    restored.sync()
    assert restored.balance == b.balance
    assert {c.coin_id for c in restored.wallet.store.coins()} == {
        c.coin_id for c in b.wallet.store.coins()
    }
    restored.wallet.unlock("pass")
    restored.pay(a.wallet.paycode(), UNC)


def test_accounts_are_apart_and_a_later_one_is_found_by_a_rescan() -> None:
    chain = WalletChain()
    secret = new_secret()
    a = Purse(chain, cheap_wallet(secret=secret))
    wide = cheap_wallet(secret=secret, accounts=2)
    chain.mine(wide.payout(1).lock_for)
    chain.mine(wide.payout(0).lock_for)
    sync(a)
    assert a.balance.on_chain == UNC
    assert reseal(a.wallet, OneMoreAccount("pass")).accounts[-1].index == 1
    assert a.wallet.address(1) == wide.address(1)
    a.wallet.rescan()
    assert a.sync().caught_up
    assert a.wallet.balance(0).on_chain == a.wallet.balance(1).on_chain == UNC
    assert a.balance.on_chain == 2 * UNC
    a.wallet.unlock("pass")
    a.send(a.wallet.spender.sweep(a.wallet.paycode(0), Fee(1), account=1)[0])


def test_a_rescan_shows_progress_and_can_be_cancelled() -> None:
    chain = WalletChain()
    (a,) = purses(chain, 1)
    chain.grow(600, a.mine_to)
    sync(a)
    before = a.balance
    a.wallet.rescan(10)
    with chain.snapshot() as view:
        step = a.wallet.advance(view)
    assert step.more
    assert step.progress.rescan_from == 10
    assert step.progress.rescan_next == 10 + 512
    a.wallet.cancel_rescan()
    progress = a.sync()
    assert progress.rescan_next is None
    assert a.balance == before


def learns_an_account(wallet: Wallet, secret: SpendSecret) -> None:
    """Let a wallet of one account have a second, whose coins take a rescan."""
    wallet.keystore = Keystore.create(REG, secret, "pass", accounts=2, cost=CHEAP)
    wallet._load_keys()
    wallet.unlock("pass")


def swept_account(anchors: int) -> tuple[Purse, Purse, SpendSecret, Outgoing]:
    """Return a wallet of one account, one of the same secret with a second account, what that has
    sent, with so many anchors before it, and the secret."""
    chain = WalletChain()
    (b,), secret = purses(chain, 1), new_secret()
    a = Purse(chain, cheap_wallet(secret=secret))
    wide = Purse(chain, cheap_wallet(secret=secret, accounts=2))
    chain.mine(wide.wallet.payout(1).lock_for)
    chain.grow(anchors)
    wide.sync()
    swept = wide.send(wide.wallet.spender.sweep(b.wallet.paycode(), Fee(1), account=1)[0])
    return a, wide, secret, swept


def test_what_a_rescan_finds_is_spent_where_it_was_spent_above_also_if_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scanner, "CHUNK_ANCHORS", 3)
    a, wide, secret, swept = swept_account(5)
    chain = a.chain
    chain.grow(3)
    sync(a, wide)
    learns_an_account(a.wallet, secret)
    a.wallet.rescan()
    with chain.snapshot() as view:
        step = a.wallet.advance(view)
        assert step.progress.rescan_next == 3
        (coin,) = a.wallet.store.coins(spent=True)
        assert (coin.spent_height, coin.spent_by) == (7, swept.txid)
        assert a.wallet.balance(1).on_chain == 0
        a.wallet.cancel_rescan()
    assert a.sync().caught_up
    assert a.wallet.balance(1) == wide.wallet.balance(1)
    (entry,) = (entry for entry in a.wallet.history() if entry.key == swept.txid)
    (known,) = (entry for entry in wide.wallet.history() if entry.key == swept.txid)
    assert (entry.height, entry.time_ms) == (known.height, known.time_ms)
    assert (entry.sent, entry.fee) == (known.sent, known.fee)
    # read to the end it knows the same
    a.wallet.rescan()
    assert a.sync().caught_up
    assert a.wallet.store.coins(spent=True) == wide.wallet.store.coins(spent=True)


def test_a_rescan_reads_the_tip_also_as_the_first_of_a_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scanner, "CHUNK_ANCHORS", 1)
    chain, secret = WalletChain(), new_secret()
    a = Purse(chain, cheap_wallet(secret=secret))
    chain.grow(2)
    chain.mine(cheap_wallet(secret=secret, accounts=2).payout(1).lock_for)
    sync(a)
    learns_an_account(a.wallet, secret)
    a.wallet.rescan()
    sync(a)
    assert a.wallet.balance(1).on_chain == UNC


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_waits_is_known_of_coins_that_a_rescan_finds(cancelled: bool) -> None:
    a, _, secret, _ = swept_account(600)
    chain = a.chain
    sync(a)
    learns_an_account(a.wallet, secret)
    a.wallet.rescan()
    if cancelled:
        with chain.snapshot() as view:
            assert a.wallet.advance(view).progress.rescan_next == 512
        a.wallet.cancel_rescan()
    sync(a)
    assert a.wallet.balance(1).confirmed == 0
    assert a.wallet.balance(1).leaving == UNC


def test_a_rescan_that_goes_on_is_not_cut_short_by_one_that_begins_higher() -> None:
    chain = WalletChain()
    (a,) = purses(chain, 1)
    chain.grow(1_030, a.mine_to)
    sync(a)
    a.wallet.rescan(5)
    with chain.snapshot() as view:
        assert a.wallet.advance(view).progress.rescan_next == 517
        a.wallet.rescan(1_000)
        assert a.wallet.progress(view).rescan_next == 517
        # what it has read already is read again
        a.wallet.rescan(500)
        assert a.wallet.progress(view).rescan_next == 500
    assert a.sync().caught_up


def test_a_rescan_goes_on_through_a_reorganisation() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(520, a.mine_to)
    sync(a)
    other = chain.fork(500, seed=3)
    a.wallet.rescan()
    with chain.snapshot() as view:
        assert a.wallet.advance(view).progress.rescan_next == 512
    other.grow(21, b.mine_to, b.mine_to)
    chain.adopt(other)
    assert chain.core.tip.id == other.core.tip.id
    assert a.sync().caught_up
    b.sync()
    assert a.balance.on_chain + b.balance.on_chain == chain.core.ledger.supply


def test_a_watch_only_wallet_sees_all_and_spends_nothing() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(2, a.mine_to)
    sync(a)
    exported = WatchExport.from_text(a.wallet.export_watch(), REG)
    watch = Purse(chain, Wallet("x", REG, Keystore.watch(REG, exported.accounts), None))
    a.pay(b.wallet.paycode(), UNC // 2, b"memo")
    chain.mine()
    sync(a, watch)
    assert watch.balance == a.balance
    assert watch.wallet.info().watch_only
    assert watch.mine_to(CoinId(bytes(32)), 5) == a.mine_to(CoinId(bytes(32)), 5)
    assert "watch:" not in repr(exported)


def test_coins_under_contracts_are_in_no_balance() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.mine(a.mine_to)
    sync(a, b)
    contract = multisig(REG, 2, [a.wallet.address(), b.wallet.address()])
    b.wallet.add_contract(contract, 0, label="ours")
    a.pay(contract.to_text(), UNC // 2)
    chain.mine()
    sync(a, b)
    assert b.balance.on_chain == 0
    assert b.wallet.contract(contract.lock).value == UNC // 2
    assert b.wallet.contracts()[0].label == "ours"
    # a wallet that hears of it later finds it by a rescan
    a.wallet.add_contract(contract, 0)
    assert a.wallet.contract(contract.lock).value == 0
    a.wallet.rescan()
    sync(a)
    assert a.wallet.contract(contract.lock).value == UNC // 2


def test_starts_at_its_birth_and_outlives_a_chain_below_it() -> None:
    chain = WalletChain()
    chain.grow(5)
    late = Purse(chain, cheap_wallet(birth=4))
    chain.mine(late.mine_to)
    assert late.sync().height == 6
    assert late.balance.on_chain == UNC
    short = WalletChain(seed=5)
    short.grow(2)
    with short.snapshot() as view:
        progress = late.wallet.catch_up(view)
    assert progress.height <= 3
    assert late.balance.on_chain == 0


def open_file(directory: Path, secret: SpendSecret | None = None) -> Wallet:
    save_new(Keystore.create(REG, secret or new_secret(), "pass", cost=CHEAP), directory, "w")
    return Wallet.open(directory, "w", REG)


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    chain = WalletChain()
    wallet = open_file(tmp_path)
    chain.grow(3, wallet.payout().lock_for)
    with chain.snapshot() as view:
        wallet.catch_up(view)
    coin = wallet.store.coins()[0]
    wallet.store.freeze(coin.coin_id, frozen=True)
    wallet.store.set_label("coin", coin.coin_id, "first pay")
    balance = wallet.balance()
    wallet.close()
    again = Wallet.open(tmp_path, "w", REG)
    assert again.balance() == balance
    assert balance.frozen == UNC
    assert again.store.label("coin", coin.coin_id) == "first pay"
    with chain.snapshot() as view:
        assert again.advance(view).anchors == 0
    again.close()
    assert stat.S_IMODE((tmp_path / "w.db").stat().st_mode) == 0o600
    raw = (tmp_path / "w.db").read_bytes()
    for hidden in (b"first pay", coin.salt, again.account().mine_secret):
        assert hidden not in raw


def test_a_reorganisation_while_it_was_closed(tmp_path: Path) -> None:
    chain = WalletChain()
    wallet = open_file(tmp_path)
    payout = wallet.payout().lock_for
    chain.grow(3, payout)
    other = chain.fork(1, seed=2)
    with chain.snapshot() as view:
        wallet.catch_up(view)
    wallet.close()
    other.grow(4)
    chain.adopt(other)
    again = Wallet.open(tmp_path, "w", REG)
    with chain.snapshot() as view:
        again.catch_up(view)
    assert again.balance().on_chain == UNC
    again.close()


def test_says_when_its_file_is_damaged_or_anothers(tmp_path: Path) -> None:
    wallet = open_file(tmp_path)
    wallet.close()
    (tmp_path / "w.db").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(StoreDamagedError, match="move it away, with the -wal"):
        Wallet.open(tmp_path, "w", REG)
    (tmp_path / "w.db").unlink()
    Wallet.open(tmp_path, "w", REG).close()
    (tmp_path / "w.wallet").unlink()
    # put there by hand: what makes wallets looks first
    Keystore.create(REG, new_secret(), "pass", cost=CHEAP).save_new(tmp_path / "w.wallet")
    with pytest.raises(StoreDamagedError, match="another owner"):
        Wallet.open(tmp_path, "w", REG)


def test_a_failure_inside_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    wallet = open_file(tmp_path)

    def fail() -> None:
        with wallet.store.transaction():
            wallet.store.set_label("coin", bytes(32), "half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert wallet.store.label("coin", bytes(32)) == ""
    with pytest.raises(NoSuchCoinError):
        wallet.store.freeze(bytes(32), frozen=True)
    wallet.close()


def test_labels_can_be_taken_away() -> None:
    store = cheap_wallet().store
    store.set_label("address", b"a", "x")
    store.set_label("address", b"a", "y")
    assert store.label("address", b"a") == "y"
    store.set_label("address", b"a", "")
    assert store.label("address", b"a") == ""


def test_somebody_elses_coins_are_left_alone() -> None:
    chain = WalletChain()
    (a,) = purses(chain, 1)
    chain.grow(3, lambda parent, time_ms: Lock(bytes(32)))
    sync(a)
    assert a.wallet.store.statistics().coins == 0


def test_reads_the_mempool_whole_where_the_log_does_not_say() -> None:
    chain = WalletChain()
    a, b = purses(chain)
    chain.grow(2, a.mine_to)
    sync(a, b)
    a.pay(b.wallet.paycode(), UNC // 2)
    a.pay(b.wallet.paycode(), UNC // 4)
    # a cursor from another life of the store
    b.wallet.store.put_number("events", 10**6)
    sync(b)
    assert b.balance.pending == UNC // 2 + UNC // 4
    assert b.wallet.store.number("events") == chain.core.ledger.next_event


def test_refuses_bad_exports() -> None:
    text = cheap_wallet().export_watch()
    for wrong in ("", "watch:", text[:-2], text + "AA", text[6:], "watch:ä"):
        with pytest.raises(KeystoreCorruptError, match="not an exported view"):
            WatchExport.from_text(wrong, REG)
    with pytest.raises(KeystoreCorruptError, match="expected local"):
        WatchExport.from_text(text, LOCAL)


def test_what_changes_the_keys_is_in_the_file(tmp_path: Path) -> None:
    wallet = open_file(tmp_path)
    words = wallet.open_secret("pass").mnemonic()
    with pytest.raises(WrongPassphraseError):
        reseal(wallet, NewPassphrase("wrong", "other"))
    reseal(wallet, NewPassphrase("pass", "other"))
    assert len(reseal(wallet, OneMoreAccount("other")).accounts) == 2
    assert wallet.locked
    wallet.close()
    again = Wallet.open(tmp_path, "w", REG)
    with pytest.raises(WrongPassphraseError):
        again.unlock("pass")
    assert again.open_secret("other").mnemonic() == words
    assert again.info().accounts == (0, 1)
    again.close()
