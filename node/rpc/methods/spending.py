"""What the methods share that move coins: their parameters, and how a fee and payees are made of
them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from unchained.node.rpc.core.errors import InvalidParamsError, RefusedError, WalletRefusedError
from unchained.node.rpc.core.registry import Access, F, Scope, method
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.methods.wallet_shapes import Payment, UnsignedTransfer
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import Payee
from unchained.node.wallet.unsigned import Unsigned
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_sender import FEE_TARGET

PAY_S = 120.0
"""Large transfers take their time to be made, signed and taken in."""

SPENDING_REFUSALS = (WalletRefusedError, RefusedError, InvalidParamsError)


def spends(name: str, *, reads: bool | tuple[str, ...] = False) -> Callable[[F], F]:
    """Mark a method that moves coins, or makes ready to; of `reads` see `method`."""
    return method(
        name, Access.FULL, scope=Scope.SPEND, reads=reads, timeout=PAY_S, errors=SPENDING_REFUSALS
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
FeeMax = Annotated[
    Amount,
    msgspec.Meta(
        description="refuse (FEE_ABOVE_MAX) what pays more in all, as whoever was shown the fee of "
        "a dry run has agreed to no more; a sweep or a consolidation takes fewer coins"
    ),
]
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


class Spending:
    """What is asked of wallets that pay."""

    def __init__(self, wallets: WalletManager) -> None:
        self._wallets = wallets

    async def prepared(self, wallet: str, make: Callable[[Wallet], Prepared]) -> UnsignedTransfer:
        """Return a transfer to be signed that is made of a wallet's coins. Raises a
        `WalletError`."""

        def work(opened: Wallet) -> UnsignedTransfer:
            unsigned = make(opened).unsigned
            opened.keep_payees(unsigned)
            return described(opened, unsigned)

        return await self._wallets.call(wallet, work)

    def payees(self, payments: list[Payment]) -> list[Payee]:
        """Return whom some payments pay. Raises `RequestError`, InvalidParams where no amount is
        named."""
        return [payment.resolve(self._wallets.network) for payment in payments]

    async def fee(
        self,
        rate: int | None,
        exact: Amount | None,
        allow_high: bool,
        target: int | None = None,
        most: Amount | None = None,
    ) -> Fee:
        """Return the fee that was asked for, at most `most` in all. Raises `InvalidParamsError`
        where it was asked for twice."""
        if sum(given is not None for given in (rate, exact, target)) > 1:
            raise InvalidParamsError(
                "only one of the parameters 'fee_rate', 'fee' and 'target' goes with a payment"
            )
        return await self._wallets.fee(
            rate,
            None if exact is None else int(exact),
            target=FEE_TARGET if target is None else target,
            allow_high=allow_high,
            most=None if most is None else int(most),
        )


def bytes_of(coins: list[Hash] | None) -> tuple[bytes, ...] | None:
    """Return the coins that were named, None where none were."""
    return None if coins is None else tuple(map(bytes, coins))


def described(wallet: Wallet, unsigned: Unsigned) -> UnsignedTransfer:
    """Return a transfer to be signed, and what signing it means to a wallet."""
    return UnsignedTransfer.of(unsigned.to_file(), wallet.summary(unsigned))
