"""Keys, accounts, addresses, paycodes, notes and conditions against known answers (§8.1, §9)."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from tests.framework.vectors import label, load, unhex
from unchained.node.consensus.params import MAIN, NETWORKS
from unchained.node.crypto.accounts import derive_account, mnemonic_seed, new_mnemonic
from unchained.node.crypto.addresses import (
    OpenedNote,
    OutputPlace,
    Paycode,
    PayeeError,
    address_lock,
    decode_address,
    decode_paycode,
    encode_address,
    encode_paycode,
    open_note,
    read_text,
    stealth_salt,
)
from unchained.node.crypto.keys import SpendKey, ViewKey
from unchained.node.primitives.conditions import lock_of, parse_condition
from unchained.node.primitives.errors import BadConditionError
from unchained.node.primitives.types import ZERO32, Lock

KEYS = load("keys")
FIPS = load("fips")
BIP39 = load("bip39")
CONDITIONS = load("conditions")


@pytest.mark.parametrize("case", FIPS["acvp_ml_dsa_65_keygen"], ids=lambda case: case["tc_id"])
def test_ml_dsa_65_key_generation(case: Any) -> None:
    public_key = SpendKey.from_seed(unhex(case["seed"])).public_key.hex()
    assert public_key.startswith(case["public_key_first"])
    assert public_key.endswith(case["public_key_last"])


@pytest.mark.parametrize("case", FIPS["ml_dsa_65"], ids=lambda case: case["seed"][:8])
def test_ml_dsa_65_signatures(case: Any) -> None:
    public_key = SpendKey.from_seed(unhex(case["seed"])).public_key
    assert hashlib.sha256(public_key).hexdigest() == case["public_key_sha256"]
    MLDSA65PublicKey.from_public_bytes(public_key).verify(
        unhex(case["signature"]), unhex(case["message"]), unhex(case["context"])
    )


@pytest.mark.parametrize("case", FIPS["ml_kem_768"], ids=lambda case: case["seed"][:8])
def test_ml_kem_768(case: Any) -> None:
    key = ViewKey.from_seed(unhex(case["seed"]))
    assert hashlib.sha256(key.public_key).hexdigest() == case["public_key_sha256"]
    assert key.decapsulate(unhex(case["ciphertext"])).hex() == case["shared_secret"]
    rejected = key.decapsulate(unhex(case["ciphertext_of_no_key"]))
    assert rejected.hex() == case["shared_secret_of_none"]


@pytest.mark.parametrize("case", BIP39["cases"], ids=lambda case: case["entropy"][:2])
def test_bip39(case: Any) -> None:
    assert new_mnemonic(unhex(case["entropy"])) == case["mnemonic"]
    assert mnemonic_seed(case["mnemonic"], BIP39["passphrase"]).hex() == case["seed"]


@pytest.mark.parametrize(
    "case", KEYS["accounts"], ids=lambda case: f"{case['network']}-{case['index']}"
)
def test_accounts(case: Any) -> None:
    seed = mnemonic_seed(KEYS["mnemonic"])
    assert seed.hex() == KEYS["seed"]
    network = NETWORKS[case["network"]]
    account = derive_account(seed, network.chain_id, case["index"])
    assert account.spend.public_key.hex() == case["public_key"]
    assert SpendKey.from_seed(unhex(case["spend_seed"])).public_key == account.spend.public_key
    assert account.key_hash.hex() == case["key_hash"]
    assert account.view.seed().hex() == case["view_seed"]
    assert account.view.public_key.hex() == case["view_key"]

    assert encode_address(network, account.key_hash) == case["address"]
    assert decode_address(network, case["address"]) == account.key_hash
    assert decode_address(network, case["address"].upper()) == account.key_hash
    assert address_lock(account.key_hash).hex() == case["address_lock"]

    paycode = Paycode(network.chain_id, account.key_hash, account.view.public_key)
    assert encode_paycode(paycode) == case["paycode"]
    assert decode_paycode(network, case["paycode"]) == paycode

    parent, time_ms = unhex(case["mining_parent"]), case["mining_time"]
    assert account.mine_secret.hex() == case["mine"]
    watch = account.watch()
    assert watch.mining_salt(parent, time_ms).hex() == case["mining_salt"]
    assert watch.mining_lock(parent, time_ms).hex() == case["mining_lock"]


@pytest.mark.parametrize("case", KEYS["paycodes"], ids=lambda case: case["paycode"][-8:])
def test_paycodes(case: Any) -> None:
    network = NETWORKS[case["network"]]
    account = derive_account(unhex(KEYS["seed"]), network.chain_id, case["index"])
    tag = unhex(case["tag"])
    paycode = Paycode(network.chain_id, account.key_hash, account.view.public_key, tag)
    assert case["kind"] == (2 if any(tag) else 1)
    assert encode_paycode(paycode) == case["paycode"]
    assert decode_paycode(network, case["paycode"]) == paycode


def opened_note(case: Any) -> OpenedNote | None:
    network = NETWORKS[case["network"]]
    account = derive_account(unhex(KEYS["seed"]), network.chain_id, case["index"])
    place = OutputPlace(unhex(case["first_input"]), case["output"])
    lock = Lock(unhex(case["lock"]))
    return open_note(account.view, account.key_hash, place, lock, unhex(case["note"]))


def shown(part: bytes | None) -> str | None:
    return None if part is None else part.hex()


@pytest.mark.parametrize("case", KEYS["notes"], ids=lambda case: case["what"])
def test_notes(case: Any) -> None:
    opened = opened_note(case)
    assert opened is not None
    assert opened.salt.hex() == case["salt"]
    assert (shown(opened.tag), shown(opened.memo)) == (case["tag"], case["memo"])


@pytest.mark.parametrize("case", KEYS["notes_that_open_nothing"], ids=lambda case: case["why"])
def test_notes_that_open_nothing(case: Any) -> None:
    assert opened_note(case) is None


@pytest.mark.parametrize("case", KEYS["stealth_salts"], ids=lambda case: case["salt"][:8])
def test_stealth_salts(case: Any) -> None:
    place = OutputPlace(unhex(case["first_input"]), case["output"])
    assert stealth_salt(unhex(case["ss"]), unhex(case["ct"]), place).hex() == case["salt"]


@pytest.mark.parametrize("case", KEYS["texts"], ids=lambda case: case["text"][:24])
def test_texts(case: Any) -> None:
    tag, memo = read_text(unhex(case["text"]))
    assert (shown(tag), shown(memo)) == (case["tag"], case["memo"])


@pytest.mark.parametrize("text", KEYS["bad_addresses_on_main"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(PayeeError):
        decode_address(MAIN, text)


@pytest.mark.parametrize("text", KEYS["bad_paycodes_on_main"], ids=lambda text: text[-8:])
def test_bad_paycodes(text: str) -> None:
    with pytest.raises(PayeeError):
        decode_paycode(MAIN, text)


@pytest.mark.parametrize("case", CONDITIONS["good"], ids=label)
def test_conditions(case: Any) -> None:
    raw = unhex(case["condition"])
    assert parse_condition(raw).to_bytes() == raw
    assert lock_of(raw, unhex(case["salt"])).hex() == case["lock"]
    assert lock_of(raw, ZERO32).hex() == case["lock_zero_salt"]


@pytest.mark.parametrize("case", CONDITIONS["bad"], ids=label)
def test_bad_conditions(case: Any) -> None:
    with pytest.raises(BadConditionError):
        parse_condition(unhex(case["condition"]))
