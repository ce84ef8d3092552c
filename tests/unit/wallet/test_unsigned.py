"""Files of transfers that are not signed: what is written is read."""

from __future__ import annotations

import pytest

from tests.framework.wallets import cheap_wallet
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import MAX_OUTPUTS
from unchained.node.crypto.addresses import address_lock
from unchained.node.primitives.conditions import KeyCondition
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED, Input, Output
from unchained.node.primitives.types import CoinId, KeyHash, UInt64
from unchained.node.rpc.core.values import HEX_BYTES_MAX
from unchained.node.wallet import unsigned
from unchained.node.wallet.errors import SigningError
from unchained.node.wallet.unsigned import UNSIGNED_BYTES_MAX, Unsigned

KEY = KeyHash(b"\1" * 32)


def paying(values: list[UInt64]) -> Unsigned:
    spent = Input(CoinId(bytes(32)), KeyCondition(KEY).to_bytes(), bytes(32))
    outputs = tuple(Output(value, address_lock(KEY), b"") for value in values)
    return Unsigned(REG.chain_id, 0, 5, (spent,), (sum(values) + 5,), outputs, (), ())


def test_what_is_written_is_read_and_what_would_not_be_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = paying([10**8]), paying([10**8, 10**8])
    assert Unsigned.from_file(one.to_file(), REG) == one
    # at the bound itself, and a byte above it
    monkeypatch.setattr(unsigned, "UNSIGNED_BYTES_MAX", len(one.to_file()) - 19)
    one.to_file()
    with pytest.raises(SigningError, match="pay fewer payees at a time"):
        two.to_file()


def test_the_file_of_every_transfer_of_paycodes_can_be_carried() -> None:
    """175 payees of paycodes make a transfer that fits, with more than as much again in names."""
    paycode = cheap_wallet().paycode()
    named = MAX_OUTPUTS * (len(paycode) + 32 + 16)
    assert MAX_TRANSFER_ENCODED + named < UNSIGNED_BYTES_MAX <= HEX_BYTES_MAX
