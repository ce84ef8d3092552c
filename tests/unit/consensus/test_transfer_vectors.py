"""Transfers against known answers: names, size, signatures, and what §8.3 says of each alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.vectors import label, load, unhex
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import check_transfer_alone, decode_transfer
from unchained.node.crypto.accounts import derive_account
from unchained.node.crypto.addresses import OutputPlace, open_note
from unchained.node.crypto.keys import SIGNING_CONTEXT, key_hash, verify_signature
from unchained.node.primitives.conditions import lock_of
from unchained.node.primitives.transfer import SizedTransfer, output_id, wid_of
from unchained.node.primitives.types import Lock

TRANSFERS = load("transfers")
KEYS = load("keys")


def test_signing_context() -> None:
    assert TRANSFERS["signing_context"] == SIGNING_CONTEXT.hex()


@pytest.mark.parametrize("case", TRANSFERS["cases"], ids=label)
def test_names_and_size(case: Any) -> None:
    raw = unhex(case["encoding"])
    sized = decode_transfer(raw)
    assert SizedTransfer.of(sized.transfer) == sized
    assert sized.transfer.unsigned_bytes().hex() == case["first_six"]
    assert sized.txid.hex() == case["txid"]
    assert sized.sighash.hex() == case["sighash"]
    assert sized.wid.hex() == wid_of(raw).hex() == case["wid"]
    assert sized.size == case["size"]
    assert sized.transfer.fee == case["fee"]
    outputs = range(len(sized.transfer.outputs))
    assert [output_id(sized.txid, index).hex() for index in outputs] == case["output_ids"]
    locks = [lock_of(spent.condition, spent.salt).hex() for spent in sized.transfer.inputs]
    assert locks == case["spent_locks"]
    check_transfer_alone(sized.transfer, REG)


@pytest.mark.parametrize("case", TRANSFERS["cases"], ids=label)
def test_signatures(case: Any) -> None:
    sized = SizedTransfer.from_bytes(unhex(case["encoding"]))
    found = [
        {
            "key_hash": key_hash(entry.public_key).hex(),
            "valid": verify_signature(entry.public_key, sized.sighash, entry.signature),
        }
        for entry in sized.transfer.signatures
    ]
    assert found == case["signatures"]


@pytest.mark.parametrize("case", TRANSFERS["stealth"], ids=label)
def test_what_accounts_find(case: Any) -> None:
    found = []
    transfer = SizedTransfer.from_bytes(unhex(case["encoding"])).transfer
    for index in range(4):
        account = derive_account(unhex(KEYS["seed"]), REG.chain_id, index)
        for at, output in enumerate(transfer.outputs):
            place = OutputPlace(transfer.inputs[0].coin_id, at)
            lock = Lock(output.lock)
            opened = open_note(account.view, account.key_hash, place, lock, output.note)
            if opened is not None:
                found.append(
                    {
                        "output": at,
                        "account": index,
                        "salt": opened.salt.hex(),
                        "tag": None if opened.tag is None else opened.tag.hex(),
                        "memo": None if opened.memo is None else opened.memo.hex(),
                    }
                )
    assert found == case["opens"]


def rule_broken_alone(raw: bytes) -> str | None:
    try:
        check_transfer_alone(decode_transfer(raw).transfer, REG)
    except ProtocolError as error:
        return error.name
    return None


@pytest.mark.parametrize(
    "case", TRANSFERS["alone"], ids=lambda case: f"{case['rule']} {case['what']}"
)
def test_rules_of_a_transfer_alone(case: Any) -> None:
    assert rule_broken_alone(unhex(case["encoding"])) == case["rule"]


@pytest.mark.parametrize("case", TRANSFERS["zeros"], ids=lambda case: case["rule"])
def test_size_comes_before_decoding(case: Any) -> None:
    assert rule_broken_alone(bytes(case["bytes_of_zero"])) == case["rule"]
