"""What an order becomes: one transfer or several, planned or carried out."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.wallets import Purse, WalletChain, cheap_wallet
from unchained.node.consensus.policy import DUST
from unchained.node.crypto.addresses import Paycode, encode_paycode
from unchained.node.wallet import plan as plan_module
from unchained.node.wallet import spender as spender_module
from unchained.node.wallet.errors import (
    BadPaymentError,
    ConsolidationNeededError,
    FeeAboveMaxError,
    InsufficientFundsError,
    NothingToDoError,
    WalletLockedError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.orders import (
    ConsolidationOrder,
    Noted,
    PaymentOrder,
    ReplacementOrder,
    SpendingOrder,
    SweepOrder,
    carry_out,
    plan,
)
from unchained.node.wallet.records import HistoryKind, Payee

UNC = 10**8


class Scene:
    """A payer who has mined some coins of one UNC, and a payee."""

    def __init__(self, coins: int = 6) -> None:
        self.chain = WalletChain()
        self.payer = Purse(self.chain, cheap_wallet("payer"))
        self.payee = Purse(self.chain, cheap_wallet("payee"))
        self.chain.grow(coins, self.payer.mine_to)
        self.sync()

    def sync(self) -> None:
        self.payer.sync()
        self.payee.sync()

    def to(self, value: int, *, paycode: bool = True) -> Payee:
        wallet = self.payee.wallet
        return Payee(wallet.paycode() if paycode else wallet.address(), value, b"")

    def carry_out(self, order: SpendingOrder) -> list[Noted]:
        """Carry an order out, and mine what it sends."""
        noted = carry_out(self.payer.wallet, order, self.chain.now_ms)
        for step in noted:
            self.chain.submit(step.outgoing.raw)
        self.sync()
        self.chain.mine()
        self.sync()
        return noted


@pytest.fixture
def few_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that spends at most three coins."""
    for module in (plan_module, spender_module):
        monkeypatch.setattr(module, "MAX_INPUTS", 3)


@pytest.mark.usefixtures("few_inputs")
def test_a_payment_that_takes_more_coins_than_a_transfer_holds_joins_some_first() -> None:
    scene = Scene(8)
    order = PaymentOrder((scene.to(5 * UNC),), Fee(1))
    with pytest.raises(ConsolidationNeededError):
        order.prepare(scene.payer.wallet.spender)
    before = scene.payer.balance
    steps = plan(scene.payer.wallet, order, 0)
    assert [len(step.unsigned.inputs) for step in steps] == [3, 3] or len(steps) >= 2
    assert scene.payer.balance == before
    assert scene.payer.wallet.store.waiting_outgoing() == []
    noted = scene.carry_out(order)
    assert len(noted) == len(steps)
    assert scene.payee.balance.confirmed == 5 * UNC
    fees = sum(step.outgoing.fee for step in noted)
    assert scene.payer.balance.on_chain == 3 * UNC - fees
    kinds = [entry.kind for entry in scene.payer.wallet.history(len(noted))]
    assert sorted(kinds) == [HistoryKind.PAID] + [HistoryKind.MOVED] * (len(noted) - 1)


@pytest.mark.usefixtures("few_inputs")
def test_what_all_joining_does_not_pay_leaves_nothing_behind() -> None:
    scene = Scene(6)
    rows = scene.payer.wallet.store.statistics().outgoing
    for order in (
        PaymentOrder((scene.to(6 * UNC),), Fee(1)),
        # whoever names coins means those
        PaymentOrder(
            (scene.to(4 * UNC),),
            Fee(1),
            coins=tuple(bytes(coin.coin_id) for coin in scene.payer.wallet.store.coins()),
        ),
    ):
        with pytest.raises((InsufficientFundsError, ConsolidationNeededError)):
            carry_out(scene.payer.wallet, order, 0)
    assert scene.payer.wallet.store.statistics().outgoing == rows
    assert scene.payer.balance.leaving == 0


def test_a_plan_needs_no_key_and_says_what_is_then_sent() -> None:
    scene = Scene()
    first = scene.payer.pay(scene.payee.wallet.paycode(), UNC // 2)
    orders: list[SpendingOrder] = [
        PaymentOrder((scene.to(UNC),), Fee(2)),
        SweepOrder(scene.payee.wallet.address(), Fee(2)),
        ConsolidationOrder(Fee(2)),
        ReplacementOrder(first.txid, Fee(9)),
    ]
    scene.payer.wallet.lock()
    for order in orders:
        before = scene.payer.balance
        with pytest.raises(WalletLockedError):
            carry_out(scene.payer.wallet, order, 0)
        steps = plan(scene.payer.wallet, order, 0)
        assert scene.payer.balance == before
        scene.payer.wallet.unlock("pass")
        made = order.prepare(scene.payer.wallet.spender)
        scene.payer.wallet.lock()
        assert [(step.payees, step.unsigned.fee, step.replaces) for step in steps] == [
            (step.payees, step.unsigned.fee, step.replaces) for step in made
        ]


def test_what_joins_all_coins_is_replaced_from_what_it_joins() -> None:
    scene = Scene(3)
    (joined,) = carry_out(scene.payer.wallet, ConsolidationOrder(Fee(1)), 0)
    scene.chain.submit(joined.outgoing.raw)
    scene.sync()
    txid = joined.outgoing.txid
    for rate in (5, 20):
        (again,) = carry_out(scene.payer.wallet, ReplacementOrder(txid, Fee(rate)), 0)
        scene.chain.submit(again.outgoing.raw)
        scene.sync()
        txid = again.outgoing.txid
    scene.chain.mine()
    scene.sync()
    assert scene.payer.balance.confirmed == 3 * UNC - again.outgoing.fee
    assert scene.payer.wallet.history_book.entry(txid).kind is HistoryKind.MOVED
    assert len(scene.payer.wallet.store.coins()) == 1


@pytest.mark.parametrize("fee", [Fee(1), Fee(7), Fee(exact=50_000)])
def test_payees_may_bear_the_fee(fee: Fee) -> None:
    scene = Scene()
    order = PaymentOrder((scene.to(UNC), scene.to(UNC // 2)), fee, subtract_fee=True)
    ((noted),) = scene.carry_out(order)
    sent = noted.outgoing
    values = [payee.value for payee in sent.payees]
    assert scene.payee.balance.confirmed == sum(values) == UNC * 3 // 2 - sent.fee
    assert 0 <= (UNC - values[0]) - (UNC // 2 - values[1]) <= 1
    assert scene.payer.balance.on_chain == 6 * UNC - UNC * 3 // 2
    if fee.exact is not None:
        assert sent.fee == fee.exact


def test_all_that_there_is_can_be_paid_where_the_payee_bears_the_fee() -> None:
    scene = Scene(2)
    ((noted),) = scene.carry_out(PaymentOrder((scene.to(2 * UNC),), Fee(1), subtract_fee=True))
    assert scene.payer.balance.on_chain == 0
    assert scene.payee.balance.confirmed == 2 * UNC - noted.outgoing.fee
    little = PaymentOrder((scene.to(DUST),), Fee(1), subtract_fee=True)
    with pytest.raises(BadPaymentError, match="leaves a payee"):
        carry_out(scene.payee.wallet, little, 0)


def test_what_is_too_little_for_change_is_borne_before_the_payees_bear_more() -> None:
    scene = Scene(1)
    value = UNC - DUST // 2
    ((noted),) = scene.carry_out(PaymentOrder((scene.to(value),), Fee(1), subtract_fee=True))
    assert noted.outgoing.change is None
    assert scene.payee.balance.confirmed == UNC - noted.outgoing.fee


def test_a_request_is_told_from_others_but_for_its_fee_rate() -> None:
    payees = (Payee("x", 5, b""),)
    same = {
        PaymentOrder(payees, Fee(1)).digest(),
        PaymentOrder(payees, Fee(9)).digest(),
    }
    others = {
        PaymentOrder(payees, Fee(exact=5)).digest(),
        PaymentOrder(payees, Fee(1), account=1).digest(),
        PaymentOrder(payees, Fee(1), coins=(bytes(32),)).digest(),
        PaymentOrder(payees, Fee(1), subtract_fee=True).digest(),
        PaymentOrder((*payees, *payees), Fee(1)).digest(),
    }
    assert (len(same), len(same | others)) == (1, 6)


def _agreed(fee: Fee, most: int) -> Fee:
    return msgspec.structs.replace(fee, most=most)


@pytest.mark.usefixtures("few_inputs")
def test_no_order_costs_more_than_was_agreed_to_in_all() -> None:
    scene = Scene(9)
    first = scene.payer.pay(scene.payee.wallet.paycode(), UNC // 2)
    orders: list[PaymentOrder | ReplacementOrder] = [
        PaymentOrder((scene.to(UNC),), Fee(2)),
        PaymentOrder((scene.to(UNC),), Fee(2), subtract_fee=True),
        PaymentOrder((scene.to(UNC),), Fee(exact=50_000)),
        # joins coins first: what that costs is agreed to as well
        PaymentOrder((scene.to(5 * UNC),), Fee(1)),
        ReplacementOrder(first.txid, Fee(9)),
    ]
    rows = scene.payer.wallet.store.statistics().outgoing
    for order in orders:
        shown = sum(step.unsigned.fee for step in plan(scene.payer.wallet, order, 0))
        cheaper = msgspec.structs.replace(order, fee=_agreed(order.fee, shown - 1))
        for make in (plan, carry_out):
            with pytest.raises(FeeAboveMaxError, match="agreed to"):
                make(scene.payer.wallet, cheaper, 0)
        assert scene.payer.wallet.store.statistics().outgoing == rows
        assert plan(
            scene.payer.wallet, msgspec.structs.replace(order, fee=_agreed(order.fee, shown)), 0
        )


@pytest.mark.usefixtures("few_inputs")
def test_what_is_gathered_takes_no_more_coins_than_were_agreed_to() -> None:
    scene = Scene(5)
    wallet = scene.payer.wallet
    to = scene.payee.wallet.address()
    for order in (SweepOrder(to, Fee(2)), ConsolidationOrder(Fee(2))):
        steps = plan(wallet, order, 0)
        assert [len(step.unsigned.inputs) for step in steps] == [3, 2]
        shown = sum(step.unsigned.fee for step in steps)
        for spare, counts in ((0, [3, 2]), (1, [3, 1]), (shown // 2 + 1, [2])):
            least = 1 if isinstance(order, SweepOrder) else 2
            agreed = msgspec.structs.replace(order, fee=_agreed(order.fee, shown - spare))
            found = plan(wallet, agreed, 0)
            assert [len(step.unsigned.inputs) for step in found] == [
                count for count in counts if count >= least
            ]
            assert sum(step.unsigned.fee for step in found) <= shown - spare
        # where that leaves nothing, there would be something to do for more
        with pytest.raises(FeeAboveMaxError, match=r"more than the 0\.00000001 agreed to"):
            plan(wallet, msgspec.structs.replace(order, fee=_agreed(order.fee, 1)), 0)
    alone = ConsolidationOrder(_agreed(Fee(2), 1), below=1)
    with pytest.raises(NothingToDoError):
        plan(wallet, alone, 0)


@pytest.mark.usefixtures("few_inputs")
def test_coins_that_cost_too_much_of_what_they_are_worth_stay_where_they_are() -> None:
    scene = Scene(4)
    dust = tuple(Payee(scene.payee.wallet.address(), 3_000 + step, b"") for step in range(3))
    scene.carry_out(PaymentOrder((*dust, scene.to(UNC, paycode=False)), Fee()))
    scene.carry_out(PaymentOrder((scene.to(UNC, paycode=False),) * 2, Fee()))
    wallet, to = scene.payee.wallet, scene.payer.wallet.address()
    # nobody chose the rate: the mempool asks for it
    fee = Fee(rate=4, estimate=4)
    (step,) = plan(wallet, SweepOrder(to, fee), 0)
    assert step.unsigned.values == (UNC,) * 3
    dusty = tuple(coin.coin_id for coin in wallet.store.coins() if coin.value < UNC)
    with pytest.raises(NothingToDoError, match="no coins are worth gathering"):
        plan(wallet, SweepOrder(to, fee, coins=dusty), 0)


def test_who_pays_an_invoice_again_is_told_that_he_has_paid_it() -> None:
    scene = Scene()
    keys = scene.payee.wallet.account()
    network = scene.chain.network
    code = Paycode(network.chain_id, keys.key_hash, keys.view.public_key, b"\1" * 8)
    paycode = encode_paycode(code)
    order = PaymentOrder((Payee(paycode, UNC // 2, b""),), Fee(1))
    (step,) = plan(scene.payer.wallet, order, scene.chain.now_ms)
    assert not step.warning
    ((noted),) = scene.carry_out(order)
    assert not noted.outgoing.warning
    (step,) = plan(scene.payer.wallet, order, scene.chain.now_ms)
    assert "this wallet has paid 0.5 UNC to that paycode already, at " in step.warning
    (step,) = plan(scene.payer.wallet, SweepOrder(paycode, Fee(1)), scene.chain.now_ms)
    assert "already" in step.warning
    ((noted),) = scene.carry_out(order)
    assert "already" in noted.outgoing.warning
    plain = PaymentOrder((scene.to(UNC // 2),), Fee(1))
    scene.carry_out(plain)
    (step,) = plan(scene.payer.wallet, plain, scene.chain.now_ms)
    assert not step.warning
