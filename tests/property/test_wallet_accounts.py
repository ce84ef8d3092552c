"""Whatever accounts a wallet had, in whatever order they were paid: restored, it has them all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.framework.restored_wallets import Past, restored
from unchained.node.wallet import scanner
from unchained.node.wallet.further_accounts import ACCOUNT_GAP


@settings(max_examples=12)
@given(
    steps=st.lists(st.integers(1, ACCOUNT_GAP), max_size=8),
    order=st.randoms(use_true_random=False),
    chunk=st.sampled_from([1, 3, scanner.CHUNK_ANCHORS]),
    accounts=st.integers(1, 3),
)
def test_any_accounts_without_a_gap_are_found(
    steps: list[int], order: random.Random, chunk: int, accounts: int
) -> None:
    used, last = [], accounts - 1
    for step in steps:
        last += step
        used.append(last)
    order.shuffle(used)
    past = Past(used, last + 1)
    again = restored(past.secret, accounts)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scanner, "CHUNK_ANCHORS", chunk)
        past.read(again)
    assert again.info().accounts == tuple(range(last + 1))
    assert again.balance() == past.old.balance
    for account in range(last + 1):
        assert again.balance(account) == past.old.wallet.balance(account)
