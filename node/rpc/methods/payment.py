"""wallet.*: paying, signing, and conditions shared with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import InvalidParamsError, RefusedError, WalletRefusedError
from unchained.node.rpc.core.registry import Access, F, Scope, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.parameters import MAX_NUMBER
from unchained.node.rpc.methods.wallet_shapes import (
    Abandoned,
    Account,
    ContractInfo,
    FeeRate,
    GatheredInfo,
    Label,
    Memo,
    PartyText,
    PayeeText,
    Payment,
    Sent,
    UnsignedTransfer,
    WalletName,
)
from unchained.node.wallet.contracts import (
    CONTRACT_CHARS_MAX,
    Contract,
    hash_time_lock,
    multisig,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.orders import (
    ConsolidationOrder,
    PaymentOrder,
    ReplacementOrder,
    SpendingOrder,
    SweepOrder,
)
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import AccountRef, Outgoing, Payee
from unchained.node.wallet.unsigned import Unsigned
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_sender import FEE_TARGET

PAY_S = 120.0
"""Large transfers take their time to be made, signed and taken in."""

_REFUSALS = (WalletRefusedError, RefusedError, InvalidParamsError)


def _spends(name: str, *, reads: bool | tuple[str, ...] = False) -> Callable[[F], F]:
    """Mark a method that moves coins, or makes ready to; of `reads` see `method`."""
    return method(
        name, Access.FULL, scope=Scope.SPEND, reads=reads, timeout=PAY_S, errors=_REFUSALS
    )


Payments = Annotated[list[Payment], msgspec.Meta(min_length=1, max_length=255)]
CoinIds = Annotated[list[Hash], msgspec.Meta(max_length=1024)]
RequestId = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=128, description="the caller's own name for the payment"),
]
AllowHighFee = Annotated[
    bool,
    msgspec.Meta(
        description="pay a fee above 100 times the estimate, or above a tenth of the amount"
    ),
]
ExactFee = Annotated[Amount, msgspec.Meta(description="exactly this fee")]
FeeTarget = Annotated[
    int,
    msgspec.Meta(
        ge=1, le=100, description="pay what should do to be included within so many anchors"
    ),
]
DryRun = Annotated[
    bool, msgspec.Meta(description="return what it would send, and sign and send nothing")
]
ContractLock = Annotated[Hash, msgspec.Meta(description="the contract's lock")]


class PaymentRoom:
    """Methods that move coins, or make ready to."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets

    @_spends("wallet.send", reads=("dry_run", "coins"))
    @user_text(
        """Pay from an unlocked wallet, and return the transfer that the node has taken.

        Without `fee_rate`, `fee` and `target` it pays what should do to be included within two
        anchors. With `coins` only those are spent. Where one transfer does not hold enough coins,
        others join some first. Under one `request_id` a wallet pays once: asked again with the same
        parameters, it returns the same transfer as it stands.
        """
    )
    async def send(
        self,
        payments: Payments,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        account: Account = 0,
        fee_rate: FeeRate | None = None,
        fee: ExactFee | None = None,
        target: FeeTarget | None = None,
        subtract_fee: Annotated[
            bool, msgspec.Meta(description="the payees bear the fee, in equal parts")
        ] = False,
        coins: CoinIds | None = None,
        allow_high_fee: AllowHighFee = False,
        request_id: RequestId | None = None,
        dry_run: DryRun = False,
    ) -> Sent:
        payees = self._payees(payments)
        chosen = await self._fee(fee_rate, fee, allow_high_fee, target)
        named = _bytes_of(coins)
        if dry_run:
            order = PaymentOrder(
                tuple(payees),
                chosen,
                account,
                named,
                subtract_fee,
            )
            return Sent.planned(await self._wallets.plan(wallet, order))
        sent = await self._wallets.send(
            wallet,
            payees,
            chosen,
            account=account,
            coins=named,
            subtract_fee=subtract_fee,
            request_id=request_id,
        )
        return Sent.of(sent)

    @_spends("wallet.sweep", reads=True)
    @user_text(
        """Pay all of an account's coins to one payee, in as many transfers as it takes.

        The largest go first, and none that is worth less than its fee; with `coins` only those
        are spent.
        """
    )
    async def sweep(
        self,
        payee: PayeeText,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        account: Account = 0,
        fee_rate: FeeRate | None = None,
        target: FeeTarget | None = None,
        memo: Memo = "",
        coins: CoinIds | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> GatheredInfo:
        chosen = await self._fee(fee_rate, None, allow_high_fee, target)
        named = _bytes_of(coins)
        if dry_run:
            order = SweepOrder(payee, chosen, account, memo.encode(), named)
            return await self._planned(wallet, account, order)
        made = await self._wallets.sweep(
            wallet, payee, chosen, account=account, memo=memo.encode(), coins=named
        )
        return GatheredInfo.of(made)

    @_spends("wallet.consolidate", reads=True)
    @user_text("Join an account's coins, the smallest first, into few.")
    async def consolidate(
        self,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        account: Account = 0,
        fee_rate: FeeRate | None = None,
        target: FeeTarget | None = None,
        below: Annotated[Amount, msgspec.Meta(description="join smaller coins alone")]
        | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> GatheredInfo:
        chosen = await self._fee(fee_rate, None, allow_high_fee, target)
        least = None if below is None else int(below)
        if dry_run:
            return await self._planned(wallet, account, ConsolidationOrder(chosen, account, least))
        made = await self._wallets.consolidate(wallet, chosen, account=account, below=least)
        return GatheredInfo.of(made)

    async def _planned(
        self, wallet: str, account: AccountRef, order: SpendingOrder
    ) -> GatheredInfo:
        steps = await self._wallets.plan(wallet, order)
        before = await self._wallets.call(wallet, lambda opened: opened.balance(account))
        return GatheredInfo.planned(steps, before.confirmed - before.frozen)

    @_spends("wallet.bump_fee", reads=True)
    @user_text("Replace a waiting transfer by one that pays more (Protocol §8.4).")
    async def bump_fee(
        self,
        txid: Annotated[Hash, msgspec.Meta(description="of the transfer to replace")],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        fee_rate: FeeRate | None = None,
        fee: ExactFee | None = None,
        target: FeeTarget | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> Sent:
        if fee_rate is None and fee is None and target is None:
            raise InvalidParamsError("wallet.bump_fee needs fee_rate, fee or target")
        chosen = await self._fee(fee_rate, fee, allow_high_fee, target)
        if dry_run:
            order = ReplacementOrder(bytes(txid), chosen)
            return Sent.planned(await self._wallets.plan(wallet, order))
        return Sent.of(await self._wallets.bump_fee(wallet, bytes(txid), chosen))

    @method(
        "wallet.abandon",
        Access.FULL,
        scope=Scope.SPEND,
        reads=True,
        errors=(WalletRefusedError,),
    )
    @user_text(
        """Take the coins of a waiting transfer back that the mempool does not have any more.

        Waiting transfers that spend its change are given up with it. A node elsewhere may still
        have it, and it may be included all the same.
        """
    )
    async def abandon(self, txid: Hash, wallet: WalletName = DEFAULT_WALLET) -> Abandoned:
        lost = await self._wallets.abandon(wallet, bytes(txid))
        return Abandoned(txid, tuple(map(Hash, lost)))

    @_spends("wallet.prepare", reads=True)
    @user_text("Make a transfer to be signed elsewhere; nothing is taken from the wallet yet.")
    async def prepare(
        self,
        payments: Payments,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        account: Account = 0,
        fee_rate: FeeRate | None = None,
        fee: Amount | None = None,
        coins: CoinIds | None = None,
        allow_high_fee: AllowHighFee = False,
    ) -> UnsignedTransfer:
        payees, chosen = self._payees(payments), await self._fee(fee_rate, fee, allow_high_fee)
        wanted = _bytes_of(coins)
        return await self._prepare(
            wallet,
            lambda opened: opened.spender.pay(payees, chosen, account=account, coins=wanted),
        )

    @_spends("wallet.sign", reads=True)
    @user_text(
        """Add the signatures of an unlocked wallet to a file of wallet.prepare or of another
        signer."""
    )
    async def sign(self, file: Hex, wallet: WalletName = DEFAULT_WALLET) -> UnsignedTransfer:
        def work(opened: Wallet) -> UnsignedTransfer:
            unsigned = Unsigned.from_file(bytes(file), opened.network)
            return _unsigned(opened, opened.sign(unsigned))

        return await self._wallets.call(wallet, work)

    @method("wallet.describe", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return what signing a file would mean, and change nothing.")
    async def describe(self, file: Hex, wallet: WalletName = DEFAULT_WALLET) -> UnsignedTransfer:
        return await self._wallets.call(
            wallet,
            lambda opened: _unsigned(opened, Unsigned.from_file(bytes(file), opened.network)),
        )

    @_spends("wallet.broadcast", reads=True)
    @user_text(
        """Send a transfer from files that signers handed back; their signatures are joined.

        One that moves no coins of the wallet is sent and not kept, and `warning` says so.
        """
    )
    async def broadcast(
        self,
        files: Annotated[list[Hex], msgspec.Meta(min_length=1, max_length=16)],
        wallet: WalletName = DEFAULT_WALLET,
    ) -> Sent:
        return Sent.of(await self._wallets.broadcast(wallet, [bytes(file) for file in files]))

    # Conditions shared with others

    @method("wallet.contracts", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return the contracts that a wallet watches, and what they hold.")
    async def contracts(self, wallet: WalletName = DEFAULT_WALLET) -> list[ContractInfo]:
        found = await self._wallets.call(wallet, Wallet.contracts)
        return [ContractInfo.of(watched) for watched in found]

    @method("wallet.contract_add", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Watch a contract that another party made, by its text.

        For what was paid to it before, the wallet reads the chain again from its birth on, beside
        following it; `progress` of wallet.info shows how far. Not if it watched it already.
        """
    )
    async def contract_add(
        self,
        contract: Annotated[str, msgspec.Meta(max_length=CONTRACT_CHARS_MAX)],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        label: Label = "",
        preimage: Hash | None = None,
    ) -> ContractInfo:
        made = Contract.from_text(contract, self._wallets.network)
        known = None if preimage is None else bytes(preimage)
        return await self._add(wallet, made, label, known, read_again=True)

    @method("wallet.multisig_create", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Make an m-of-n of the parties' keys and watch it; hand its text to the parties.

        To fund it, pay its text. To spend it: wallet.multisig_prepare, wallet.sign by m parties,
        wallet.broadcast.
        """
    )
    async def multisig_create(
        self,
        threshold: Annotated[int, msgspec.Meta(ge=1, le=16)],
        parties: Annotated[
            list[PartyText], msgspec.Meta(max_length=16, description="addresses or paycodes")
        ],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        label: Label = "",
    ) -> ContractInfo:
        return await self._add(
            wallet, multisig(self._wallets.network, threshold, parties), label, None
        )

    @_spends("wallet.multisig_prepare", reads=True)
    @user_text(
        """Make a transfer of what an m-of-n holds, to be signed by its parties.

        What is left stays under the contract; with no payments all goes to the wallet itself.
        """
    )
    async def multisig_prepare(
        self,
        lock: ContractLock,
        payments: Annotated[list[Payment], msgspec.Meta(max_length=255)],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        fee_rate: FeeRate | None = None,
        fee: Amount | None = None,
        coins: CoinIds | None = None,
        allow_high_fee: AllowHighFee = False,
    ) -> UnsignedTransfer:
        payees, chosen = self._payees(payments), await self._fee(fee_rate, fee, allow_high_fee)
        wanted = _bytes_of(coins)
        return await self._prepare(
            wallet,
            lambda opened: opened.spender.from_contract(
                opened.contract(bytes(lock)).contract, chosen, payees=payees, named=wanted
            ),
        )

    @method("wallet.htlc_create", Access.FULL, errors=(WalletRefusedError,))
    @user_text(
        """Make a hash-time-lock and watch it; hand its text to the other party.

        Without `hash` a preimage is drawn and kept. To fund it, pay its text. `refund_height` has
        to be above that of the next anchor: a refund that is open at once leaves no time to claim.
        """
    )
    async def htlc_create(
        self,
        claim: Annotated[PartyText, msgspec.Meta(description="address or paycode of who claims")],
        refund: Annotated[PartyText, msgspec.Meta(description="of who is refunded")],
        refund_height: Annotated[
            int, msgspec.Meta(ge=1, le=MAX_NUMBER, description="height to refund from")
        ],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        hash: Annotated[  # noqa: A002 - the parameter's public name
            Hash, msgspec.Meta(description="SHA-256 of the preimage")
        ]
        | None = None,
        label: Label = "",
    ) -> ContractInfo:
        read = await self._wallets.call(wallet, lambda opened: opened.spender.next_height)
        made = hash_time_lock(
            self._wallets.network,
            claim,
            refund,
            refund_height,
            None if hash is None else bytes(hash),
            next_height=max(read, self._wallets.tip_height + 1),
        )
        return await self._add(wallet, made.contract, label, made.preimage)

    @_spends("wallet.htlc_claim", reads=("dry_run", "coins"))
    @user_text(
        """Take what a hash-time-lock holds, by the preimage given or known.

        Near the height of the refund it pays more, to be first, and says so in `warning`; where a
        refund waits in the mempool, what replaces it.
        """
    )
    async def htlc_claim(
        self,
        lock: ContractLock,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        preimage: Hash | None = None,
        fee_rate: FeeRate | None = None,
        coins: CoinIds | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> Sent:
        known = None if preimage is None else bytes(preimage)
        fee, named = await self._fee(fee_rate, None, allow_high_fee), _bytes_of(coins)
        act = self._wallets.plan_claim if dry_run else self._wallets.claim
        return _sent(await act(wallet, bytes(lock), fee, preimage=known, coins=named))

    @_spends("wallet.htlc_refund", reads=("dry_run", "coins"))
    @user_text("Take back what a hash-time-lock holds, once its height is reached.")
    async def htlc_refund(
        self,
        lock: ContractLock,
        wallet: WalletName = DEFAULT_WALLET,
        *,
        fee_rate: FeeRate | None = None,
        coins: CoinIds | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> Sent:
        fee, named = await self._fee(fee_rate, None, allow_high_fee), _bytes_of(coins)
        act = self._wallets.plan_refund if dry_run else self._wallets.refund
        return _sent(await act(wallet, bytes(lock), fee, coins=named))

    async def _prepare(self, wallet: str, make: Callable[[Wallet], Prepared]) -> UnsignedTransfer:
        return await self._wallets.call(
            wallet, lambda opened: _unsigned(opened, make(opened).unsigned)
        )

    async def _add(
        self,
        wallet: str,
        contract: Contract,
        label: str,
        preimage: bytes | None,
        *,
        read_again: bool = False,
    ) -> ContractInfo:
        await self._wallets.add_contract(
            wallet, contract, label=label, preimage=preimage, read_again=read_again
        )
        return ContractInfo.of(
            await self._wallets.call(wallet, lambda opened: opened.contract(contract.lock))
        )

    def _payees(self, payments: list[Payment]) -> list[Payee]:
        return [payment.resolve(self._wallets.network) for payment in payments]

    async def _fee(
        self,
        rate: int | None,
        exact: Amount | None,
        allow_high: bool,
        target: int | None = None,
    ) -> Fee:
        if sum(given is not None for given in (rate, exact, target)) > 1:
            raise InvalidParamsError("fee_rate, fee and target exclude one another")
        return await self._wallets.fee(
            rate,
            None if exact is None else int(exact),
            target=FEE_TARGET if target is None else target,
            allow_high=allow_high,
        )


def _sent(made: Outgoing | Prepared) -> Sent:
    return Sent.planned([made]) if isinstance(made, Prepared) else Sent.of(made)


def _bytes_of(coins: list[Hash] | None) -> tuple[bytes, ...] | None:
    return None if coins is None else tuple(map(bytes, coins))


def _unsigned(wallet: Wallet, unsigned: Unsigned) -> UnsignedTransfer:
    return UnsignedTransfer.of(unsigned.to_file(), wallet.summary(unsigned))
