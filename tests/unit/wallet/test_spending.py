"""Limits on what is signed: every signature counts, by whichever way it is asked for."""

from __future__ import annotations

import pytest
import trio

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.wallet import spending
from unchained.node.wallet.contracts import multisig
from unchained.node.wallet.errors import (
    InsufficientFundsError,
    NoSuchCoinError,
    SpendingError,
    SpendingLimitError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.orders import PaymentOrder
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import Payee
from unchained.node.wallet.spending import SignedTransfers
from unchained.node.wallet.wallet_store import SETTLED_ANCHORS

UNC = 10**8
PAYEE = "lock:" + "11" * 32


class Counting:
    """An allowance that shows what it counts."""

    def __init__(self, limit: int = 1000 * UNC) -> None:
        self.limit = limit
        self.counted: dict[bytes, int] = {}
        self.replaced: list[bytes] = []
        self.handed_out: dict[bytes, bytes] = {}

    def settle(self, signed: SignedTransfers) -> None:
        for txid, coin_id in list(self.handed_out.items()):
            if signed.left_ms(txid, coin_id) is not None:
                del self.handed_out[txid]

    def reserve(
        self, txid: bytes, amount: int, replaced: bytes = b"", coin_id: bytes = b""
    ) -> bool:
        if coin_id:
            self.handed_out[bytes(txid)] = coin_id
        if bytes(txid) in self.counted:
            return False
        spent = sum(self.counted.values())
        if spent + amount > self.limit:
            raise SpendingLimitError(amount, spent, self.limit)
        self.counted[bytes(txid)] = amount
        self.replaced.append(bytes(replaced))
        return True

    def check(self, amount: int) -> None:
        spent = sum(self.counted.values())
        if spent + amount > self.limit:
            raise SpendingLimitError(amount, spent, self.limit)

    def release(self, txid: bytes) -> None:
        del self.counted[bytes(txid)]


@pytest.fixture
def purse() -> Purse:
    chain = WalletChain()
    made = Purse(chain, cheap_wallet())
    chain.grow(4, made.mine_to, made.mine_to)
    chain.grow(chain.network.maturity)
    made.sync()
    return made


def pay(purse: Purse, value: int, to: str = PAYEE) -> Prepared:
    return purse.wallet.spender.pay([Payee(to, value, b"")], Fee(1))


def test_what_leaves_the_wallet_counts_with_its_fee(purse: Purse) -> None:
    prepared = pay(purse, 2 * UNC // 10)
    counting = Counting()
    with spending.limited_by(counting):
        sent = purse.send(prepared)
    assert counting.counted == {bytes(sent.txid): 2 * UNC // 10 + sent.fee}


def test_what_comes_back_to_the_wallet_costs_its_fee_alone(purse: Purse) -> None:
    counting = Counting()
    with spending.limited_by(counting):
        back = purse.send(pay(purse, UNC // 10, purse.wallet.paycode()))
        (joined,) = map(purse.send, purse.wallet.spender.consolidate(Fee(1)))
    assert counting.counted == {bytes(back.txid): back.fee, bytes(joined.txid): joined.fee}


def test_a_file_that_is_signed_counts_as_well(purse: Purse) -> None:
    prepared = pay(purse, UNC // 10)
    counting = Counting(UNC // 20)
    with spending.limited_by(counting), pytest.raises(SpendingLimitError, match=r"0\.05 UNC a day"):
        purse.wallet.sign(prepared.unsigned)
    counting.limit = UNC
    with spending.limited_by(counting):
        purse.wallet.sign(prepared.unsigned)
    assert list(counting.counted.values()) == [UNC // 10 + prepared.unsigned.fee]


def test_who_has_a_limit_spends_no_frozen_coin_whatever_way(purse: Purse) -> None:
    prepared = pay(purse, UNC // 10)
    for spent in prepared.unsigned.inputs:
        purse.wallet.store.freeze(spent.coin_id, frozen=True)
    counting = Counting()
    for spend in (purse.wallet.finish, lambda made: purse.wallet.sign(made.unsigned)):
        with spending.limited_by(counting), pytest.raises(NoSuchCoinError, match="is frozen"):
            spend(prepared)
    assert counting.counted == {}
    # who froze it may spend it all the same
    assert purse.wallet.sign(prepared.unsigned).missing() == 0


def test_what_was_signed_before_counts_on_when_a_later_call_fails(purse: Purse) -> None:
    prepared = pay(purse, UNC // 10)
    counting = Counting()
    with spending.limited_by(counting):
        purse.wallet.sign(prepared.unsigned)
    before = dict(counting.counted)

    def sign_and_fail() -> None:
        with spending.limited_by(counting):
            purse.wallet.sign(prepared.unsigned)
            raise InsufficientFundsError(1, 0)

    with pytest.raises(InsufficientFundsError):
        sign_and_fail()
    assert counting.counted == before != {}


def test_what_is_handed_out_is_told_from_what_is_sent_and_followed_until_it_has_left(
    purse: Purse,
) -> None:
    counting = Counting()
    with spending.limited_by(counting):
        sent = purse.send(pay(purse, UNC // 10))
        assert counting.handed_out == {}
        kept, rival = (
            purse.wallet.spender.pay([Payee(PAYEE, UNC // part, b"")], Fee(1), coins=[coin])
            for part, coin in zip((10, 5), _free(purse)[:1] * 2, strict=True)
        )
        signed = purse.wallet.sign(kept.unsigned)
        txid = SizedTransfer.of(signed.transfer()).txid
        (coin,) = (spent.coin_id for spent in kept.unsigned.inputs)
        assert counting.handed_out == {txid: coin}
        assert purse.wallet.store.left_ms(txid, coin) is None
        purse.chain.submit(signed.finish(purse.wallet.network).sized.raw)
        purse.sync()
        assert purse.wallet.store.left_ms(txid, coin) is None, "it waits still"
        purse.chain.mine()
        at = purse.chain.packages[-1][1].anchor.header.time
        purse.chain.grow(SETTLED_ANCHORS - 1)
        purse.sync()
        other = SizedTransfer.of(rival.unsigned.transfer()).txid
        assert purse.wallet.store.left_ms(txid, coin) is None, "it may still be undone"
        assert purse.wallet.store.left_ms(other, coin) is None, "what takes its place may be undone"
        purse.chain.mine()
        purse.sync()
        assert purse.wallet.store.left_ms(txid, coin) == at
        assert purse.wallet.store.left_ms(other, coin) == 0
        spending.settle(purse.wallet.store)
        assert counting.handed_out == {}
    assert set(counting.counted) == {bytes(sent.txid), txid}


def test_who_has_a_limit_has_nothing_signed_of_which_the_wallet_knows_no_coin() -> None:
    """It would count for ever: no anchor would say what has become of it."""
    chain = WalletChain()
    a, b = Purse(chain, cheap_wallet()), Purse(chain, cheap_wallet())
    shared = multisig(REG, 2, [a.wallet.address(), b.wallet.address()])
    chain.grow(3, a.mine_to)
    a.sync()
    a.wallet.add_contract(shared, 0)
    a.pay(shared.to_text(), UNC // 2)
    chain.mine()
    a.sync()
    spends = a.wallet.spender.from_contract(shared, Fee(1), payees=[Payee(PAYEE, UNC // 4, b"")])
    b.sync()
    counting = Counting()
    with spending.limited_by(counting), pytest.raises(NoSuchCoinError, match="knows none of the"):
        b.wallet.sign(spends.unsigned)
    assert counting.counted == {}
    # whose wallet it is may sign, and what the wallet watches is known
    assert b.wallet.sign(spends.unsigned).missing() == 1
    b.wallet.add_contract(shared, 0)
    b.wallet.rescan(0)
    b.sync()
    with spending.limited_by(counting):
        b.wallet.sign(spends.unsigned)
    assert list(counting.handed_out.values()) == [spends.unsigned.inputs[0].coin_id]


def _free(purse: Purse) -> list[bytes]:
    return [
        coin.coin_id
        for coin in purse.wallet.store.coins()
        if coin.height is not None and not coin.leaving
    ]


def test_a_replacement_names_what_it_replaces(purse: Purse) -> None:
    counting = Counting()
    with spending.limited_by(counting):
        sent = purse.send(pay(purse, UNC // 10))
        bumped = purse.send(purse.wallet.spender.bump(sent.txid, Fee(5)))
    assert counting.replaced == [b"", bytes(sent.txid)]
    assert counting.counted[bytes(bumped.txid)] == UNC // 10 + bumped.fee


def test_without_a_limit_nothing_is_counted(purse: Purse) -> None:
    counting = Counting()
    with spending.limited_by(counting), spending.limited_by(None):
        purse.send(pay(purse, UNC // 10))
    purse.send(pay(purse, UNC // 10))
    assert counting.counted == {}


def test_what_a_wallet_refuses_before_it_is_sent_is_released() -> None:
    counting = Counting()

    def work() -> None:
        with spending.limited_by(counting):
            spending.reserve(b"1", 5)
            spending.reserve(b"2", 6)
            spending.note_sent(b"1")
            raise InsufficientFundsError(1, 0)

    with pytest.raises(InsufficientFundsError):
        work()
    assert counting.counted == {b"1": 5}


def test_what_may_have_been_sent_counts() -> None:
    counting = Counting()

    def work(error: type[BaseException]) -> None:
        with spending.limited_by(counting):
            spending.reserve(error.__name__.encode(), 5)
            raise error

    for error in (trio.TooSlowError, KeyboardInterrupt):
        with pytest.raises(error):
            work(error)
    assert len(counting.counted) == 2


def test_what_the_node_refuses_is_released_once() -> None:
    counting = Counting()
    with spending.limited_by(counting):
        spending.reserve(b"1", 5)
        spending.note_refused(b"1")
        assert counting.counted == {}
        spending.note_refused(b"1")
        spending.reserve(b"2", 5)
        spending.note_sent(b"2")
        spending.note_refused(b"2")
    assert counting.counted == {b"2": 5}


@pytest.mark.real_time
async def test_worker_threads_count_for_the_task_that_waits_for_them() -> None:
    counting = Counting()
    with spending.limited_by(counting):
        await trio.to_thread.run_sync(spending.reserve, b"1", 5)
    assert counting.counted == {b"1": 5}


def test_above_the_limit_nobody_learns_whether_there_is_so_much(purse: Purse) -> None:
    """One answer for what the wallet has and what it has not, so that asking finds no balance."""
    own = purse.wallet.address()

    def answer(value: int, to: str = PAYEE) -> type[Exception] | None:
        order = PaymentOrder((Payee(to, value, b""),), Fee(1))
        try:
            with spending.limited_by(Counting(UNC)):
                order.prepare(purse.wallet.spender)
        except SpendingError as error:
            return type(error)
        return None

    assert purse.balance.confirmed == 8 * UNC
    assert {answer(value * UNC) for value in (2, 7, 9, 1000)} == {SpendingLimitError}
    assert answer(UNC // 2) is None
    # what comes back to the wallet does not count, by address or paycode
    for to in (own, purse.wallet.paycode()):
        assert answer(2 * UNC, to) is None
        assert answer(9 * UNC, to) is InsufficientFundsError
