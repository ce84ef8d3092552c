"""What a transfer pays, and when that looks like a mistake."""

from __future__ import annotations

from typing import Final

import msgspec

from unchained.node.consensus.policy import MIN_FEE_RATE
from unchained.node.primitives.amounts import shortest
from unchained.node.wallet.errors import BadPaymentError, FeeAboveMaxError, HighFeeError

MAX_RATE: Final = 1_000_000
"""Grains per byte of size above which a rate is taken for a mistake."""

HIGH_FEE_ESTIMATES: Final = 100
"""Times what the mempool takes at present above which a fee is taken for a mistake."""

HIGH_FEE_SHARE: Final = 10
"""A fee above an amount's tenth is taken for a mistake, unless no node takes less."""


class Fee(msgspec.Struct, frozen=True):
    """What a transfer pays: a rate (grains per byte of size), or exactly `exact` grains.

    `estimate` is the rate that should do at present; `allow_high` lets any fee pass. `most` are the
    grains that whoever pays has agreed to, None where nobody was asked.
    """

    rate: int = 1
    exact: int | None = None
    estimate: int = 1
    allow_high: bool = False
    most: int | None = None

    def check(self) -> None:
        """Raise `BadPaymentError` for a fee that no transfer should pay."""
        if not 1 <= self.rate <= MAX_RATE:
            raise BadPaymentError(f"a fee rate is 1 to {MAX_RATE} grains per byte, got {self.rate}")
        if self.exact is not None and not 0 < self.exact < 2**62:
            raise BadPaymentError(f"a fee is an amount above 0, got {shortest(self.exact)} UNC")

    def check_most(self, fee: int) -> None:
        """Raise `FeeAboveMaxError` where a transfer, or all of an order's together, pays more than
        was agreed to."""
        if self.most is not None and fee > self.most:
            raise FeeAboveMaxError(fee, self.most)

    def check_high(self, fee: int, size: int, amount: int) -> None:
        """Raise `HighFeeError` where a transfer of so many bytes, which moves `amount` grains,
        pays more than anybody means to; who pays the least that is relayed cannot pay less."""
        estimate = size * self.estimate
        is_least = fee <= size * MIN_FEE_RATE or (self.exact is None and self.rate <= MIN_FEE_RATE)
        if self.allow_high or is_least:
            return
        if fee > HIGH_FEE_ESTIMATES * estimate:
            raise HighFeeError(
                fee, f"{HIGH_FEE_ESTIMATES} times the estimate of {shortest(estimate)}"
            )
        if fee * HIGH_FEE_SHARE > amount:
            raise HighFeeError(fee, f"a tenth of the amount of {shortest(amount)}")
