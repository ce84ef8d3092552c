from __future__ import annotations

import pytest

from unchained.node.wallet.errors import (
    BadPaymentError,
    ConsolidationNeededError,
    FeeAboveMaxError,
    HighFeeError,
    InsufficientFundsError,
    LowFeeError,
    WalletError,
)


@pytest.mark.parametrize(
    "error",
    [
        LowFeeError("a fee of 0.00000001 UNC is too low: nodes relay from 0.00010282 on"),
        HighFeeError(5, "a tenth of the amount of 0.00000009"),
        FeeAboveMaxError(10_282, 1),
        InsufficientFundsError(9, 8),
        ConsolidationNeededError(9, 8),
    ],
)
def test_who_may_not_know_what_there_is_is_told_no_amounts(error: WalletError) -> None:
    told = error.without_amounts()
    assert told.word == error.word
    assert str(told)
    assert not any(char.isdigit() for char in str(told))


def test_what_tells_nothing_of_the_wallet_is_told_as_it_is() -> None:
    error = BadPaymentError("a memo has at most 255 bytes")
    assert error.without_amounts() is error
