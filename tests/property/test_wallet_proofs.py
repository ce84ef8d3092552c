"""Files of others are read whole or refused with the one error, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.framework.vectors import load, unhex
from tests.framework.wallets import BACKEND
from unchained.node.consensus.params import REG
from unchained.node.wallet.errors import ReceiptError, ReserveProofError, SignedMessageError
from unchained.node.wallet.receipts import verify_receipt
from unchained.node.wallet.reserve_proof import ReserveProof
from unchained.node.wallet.signed_message import SignedMessage

VECTORS = load("wallet_proofs")


def read_message(raw: bytes) -> object:
    return SignedMessage.from_file(raw, REG)


def read_receipt(raw: bytes) -> object:
    return verify_receipt(raw, REG, BACKEND)


def read_reserve(raw: bytes) -> object:
    return ReserveProof.from_file(raw).verify(REG, BACKEND)


FILES: list[tuple[bytes, Callable[[bytes], object], type[Exception]]] = [
    (unhex(VECTORS["messages"][1]["file"]), read_message, SignedMessageError),
    (unhex(VECTORS["receipts"]["files"][0]["file"]), read_receipt, ReceiptError),
    (unhex(VECTORS["reserve"]["file"]), read_reserve, ReserveProofError),
]

CHANGES = st.lists(
    st.tuples(st.integers(0, 2**20), st.integers(0, 8), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(("sound", "read", "error"), FILES, ids=["message", "receipt", "reserve"])
@given(changes=CHANGES)
def test_altered_files(
    sound: bytes,
    read: Callable[[bytes], object],
    error: type[Exception],
    changes: list[tuple[int, int, bytes]],
) -> None:
    raw = sound
    for at, taken, put in changes:
        place = at % (len(raw) + 1)
        raw = raw[:place] + put + raw[place + taken :]
    if raw == sound:
        read(raw)
        return
    with pytest.raises(error):
        read(raw)


@pytest.mark.parametrize(("sound", "read", "error"), FILES, ids=["message", "receipt", "reserve"])
@given(content=st.binary(max_size=200))
def test_files_of_any_content(
    sound: bytes, read: Callable[[bytes], object], error: type[Exception], content: bytes
) -> None:
    head = sound[: sound.index(b"\x01" if read is not read_receipt else b"\x03") + 1]
    for raw in (content, head + content):
        with pytest.raises(error):
            read(raw)
