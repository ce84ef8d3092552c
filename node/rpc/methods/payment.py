"""wallet.*: paying and signing."""

from __future__ import annotations

from typing import Annotated

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.rights import current_caller
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.spending import (
    AllowHighFee,
    CoinIds,
    DryRun,
    ExactFee,
    FeeMax,
    FeeTarget,
    Payments,
    RequestId,
    Spending,
    bytes_of,
    described,
    spends,
)
from unchained.node.rpc.methods.wallet_shapes import (
    Abandoned,
    Account,
    FeeRate,
    GatheredInfo,
    Memo,
    PayeeText,
    Sent,
    UnsignedTransfer,
    WalletName,
    read_payee,
)
from unchained.node.wallet.errors import SigningError
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.orders import (
    ConsolidationOrder,
    PaymentOrder,
    ReplacementOrder,
    SpendingOrder,
    SweepOrder,
)
from unchained.node.wallet.records import AccountRef
from unchained.node.wallet.unsigned import Unsigned
from unchained.node.wallet.wallet import Wallet


class PaymentRoom:
    """Methods that move coins, or make ready to."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets
        self._spending = Spending(wallets)

    @spends("wallet.send", reads=("dry_run", "coins"))
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
        fee_max: FeeMax | None = None,
        allow_high_fee: AllowHighFee = False,
        request_id: RequestId | None = None,
        dry_run: DryRun = False,
    ) -> Sent:
        payees = self._spending.payees(payments)
        chosen = await self._spending.fee(fee_rate, fee, allow_high_fee, target, fee_max)
        named = bytes_of(coins)
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
        told = Sent.of(sent)
        # it warns by what the wallet has, and has paid
        return told if current_caller().may_read else msgspec.structs.replace(told, warning=None)

    @spends("wallet.sweep", reads=True)
    @user_text(
        """Pay all of an account's coins to one payee, in as many transfers as it takes.

        The largest go first, and none that is worth less than its fee; with `coins` only those
        are spent. Of a payment URI payee and memo count, not the amount.
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
        fee_max: FeeMax | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> GatheredInfo:
        chosen = await self._spending.fee(fee_rate, None, allow_high_fee, target, fee_max)
        named = bytes_of(coins)
        to, _, note = read_payee(self._wallets.network, payee, memo)
        if dry_run:
            order = SweepOrder(to, chosen, account, note, named)
            return await self._planned(wallet, account, order)
        made = await self._wallets.sweep(
            wallet, to, chosen, account=account, memo=note, coins=named
        )
        return GatheredInfo.of(made)

    @spends("wallet.consolidate", reads=True)
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
        fee_max: FeeMax | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> GatheredInfo:
        chosen = await self._spending.fee(fee_rate, None, allow_high_fee, target, fee_max)
        least = None if below is None else int(below)
        if dry_run:
            return await self._planned(wallet, account, ConsolidationOrder(chosen, account, least))
        made = await self._wallets.consolidate(wallet, chosen, account=account, below=least)
        return GatheredInfo.of(made)

    async def _planned(
        self, wallet: str, account: AccountRef, order: SpendingOrder
    ) -> GatheredInfo:
        steps = await self._wallets.plan(wallet, order)
        before = await self._wallets.balance(wallet, account)
        return GatheredInfo.planned(steps, before.confirmed - before.frozen)

    @spends("wallet.bump_fee", reads=True)
    @user_text(
        """Replace a waiting transfer by one that pays more (Protocol §8.4).

        Without `fee_rate`, `fee` and `target` it pays what should do to be included within two
        anchors, or the least that replaces it where that is more.
        """
    )
    async def bump_fee(
        self,
        txid: Annotated[Hash, msgspec.Meta(description="of the transfer to replace")],
        wallet: WalletName = DEFAULT_WALLET,
        *,
        fee_rate: FeeRate | None = None,
        fee: ExactFee | None = None,
        target: FeeTarget | None = None,
        fee_max: FeeMax | None = None,
        allow_high_fee: AllowHighFee = False,
        dry_run: DryRun = False,
    ) -> Sent:
        at_least = fee_rate is None and fee is None and target is None
        chosen = await self._spending.fee(fee_rate, fee, allow_high_fee, target, fee_max)
        if dry_run:
            order = ReplacementOrder(bytes(txid), chosen, at_least)
            return Sent.planned(await self._wallets.plan(wallet, order))
        return Sent.of(await self._wallets.bump_fee(wallet, bytes(txid), chosen, at_least=at_least))

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

    @spends("wallet.prepare", reads=True)
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
        payees = self._spending.payees(payments)
        chosen = await self._spending.fee(fee_rate, fee, allow_high_fee)
        wanted = bytes_of(coins)
        return await self._spending.prepared(
            wallet,
            lambda opened: opened.spender.pay(payees, chosen, account=account, coins=wanted),
        )

    @spends("wallet.sign", reads=True)
    @user_text(
        """Add the signatures of an unlocked wallet to a file of wallet.prepare or of another
        signer."""
    )
    async def sign(self, file: Hex, wallet: WalletName = DEFAULT_WALLET) -> UnsignedTransfer:
        def work(opened: Wallet) -> UnsignedTransfer:
            unsigned = Unsigned.from_file(bytes(file), opened.network)
            opened.check_signs()
            if not opened.summary(unsigned).can_sign:
                raise SigningError(
                    f"wallet {wallet} has nothing to sign with here: it has signed already, or "
                    "none of its keys is asked for"
                )
            signed = opened.sign(unsigned)
            opened.keep_payees(signed)
            return described(opened, signed)

        return await self._wallets.call(wallet, work)

    @method("wallet.describe", Access.FULL, scope=Scope.READ, errors=(WalletRefusedError,))
    @user_text("Return what signing a file would mean, and change nothing.")
    async def describe(self, file: Hex, wallet: WalletName = DEFAULT_WALLET) -> UnsignedTransfer:
        return await self._wallets.call(
            wallet,
            lambda opened: described(opened, Unsigned.from_file(bytes(file), opened.network)),
        )

    @spends("wallet.broadcast", reads=True)
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
