"""Transfers: each rule of §8.3 by itself, and of any two that one breaks the earlier one."""

from __future__ import annotations

import hashlib
from itertools import combinations
from typing import Any

import msgspec
import pytest

from tests.framework.forge import Forge, key_condition, key_lock, of, spend_key
from tests.framework.rules import rule_broken
from unchained.node.consensus.params import MAIN, REG
from unchained.node.consensus.transfers import (
    UnspentCoin,
    check_conditions,
    check_signatures,
    check_transfer_alone,
    check_transfer_in_context,
    decode_transfer,
)
from unchained.node.primitives.conditions import (
    Condition,
    HashTimeLockCondition,
    MultisigCondition,
    lock_of,
)
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.transfer import (
    MAX_TRANSFER_ENCODED,
    Input,
    Output,
    SizedTransfer,
    Transfer,
)
from unchained.node.primitives.types import MAX_AMOUNT, ZERO32, CoinId

HEIGHT = 100
VALUE = 50_000
NET = msgspec.structs.replace(REG, maturity=8)
FORGE = Forge(NET)
PREIMAGES = sorted((b"p" * 32, b"q" * 32))
OWN = [CoinId(bytes([number]) * 32) for number in (1, 2)]
SPENT = CoinId(b"s" * 32)
YOUNG = CoinId(b"y" * 32)
OTHERS = CoinId(b"o" * 32)


class Coins:
    """A coin set of a few."""

    def __init__(self, extra: dict[CoinId, UnspentCoin] | None = None) -> None:
        old = UnspentCoin(VALUE, key_lock(0), 1, True)
        self._coins = dict.fromkeys(OWN, old)
        self._coins[YOUNG] = UnspentCoin(VALUE, key_lock(0), HEIGHT - NET.maturity + 1, True)
        self._coins[OTHERS] = UnspentCoin(VALUE, key_lock(5), 1, True)
        self._coins |= extra or {}

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        return self._coins.get(coin_id)

    def was_spent(self, coin_id: CoinId) -> bool:
        return coin_id == SPENT


def judge(raw: bytes, coins: Coins | None = None) -> None:
    sized = decode_transfer(raw)
    assert sized.raw == raw
    check_transfer_alone(sized.transfer, NET)
    check_transfer_in_context(sized.transfer, coins or Coins(), HEIGHT, NET)
    check_conditions(sized.transfer)
    check_signatures(sized)


def spend(coin_id: CoinId, condition: bytes | None = None, salt: bytes = ZERO32) -> Input:
    return Input(coin_id, key_condition(0) if condition is None else condition, salt)


RULES = [
    "BAD_VERSION",
    "WRONG_CHAIN",
    "NO_INPUTS",
    "NO_OUTPUTS",
    "TOO_MANY_INPUTS",
    "TOO_MANY_OUTPUTS",
    "DUPLICATE_INPUT",
    "BAD_CONDITION",
    "BAD_NOTE",
    "ZERO_VALUE",
    "VALUE_OVERFLOW",
    "BAD_ORDER",
    "LOCKED_UNTIL_HEIGHT",
    "COIN_UNKNOWN",
    "COIN_SPENT",
    "IMMATURE_COIN",
    "LOCK_MISMATCH",
    "FEE_MISMATCH",
    "CONDITION_UNMET",
    "UNUSED_SIGNATURE",
    "UNUSED_PREIMAGE",
    "BAD_SIGNATURE",
]
"""§8.3's order, decoding apart."""

IMPOSSIBLE = {
    # what has no inputs or no outputs has no fault in them
    ("NO_INPUTS", rule)
    for rule in (
        "TOO_MANY_INPUTS",
        "DUPLICATE_INPUT",
        "BAD_CONDITION",
        "COIN_UNKNOWN",
        "COIN_SPENT",
        "IMMATURE_COIN",
        "LOCK_MISMATCH",
        "CONDITION_UNMET",
    )
} | {("NO_OUTPUTS", rule) for rule in ("TOO_MANY_OUTPUTS", "BAD_NOTE", "ZERO_VALUE")}


def break_rules(broken: set[str]) -> bytes:
    fields: dict[str, Any] = {"fee": 100}
    inputs = [spend(OWN[0]), spend(OWN[1])]
    outputs = [Output(2 * VALUE - 100, key_lock(1), b"")]
    keys = {0}
    if "BAD_VERSION" in broken:
        fields["version"] = 2
    if "WRONG_CHAIN" in broken:
        fields["chain_id"] = MAIN.chain_id
    if "TOO_MANY_INPUTS" in broken:
        inputs = [spend(CoinId(number.to_bytes(32, "big"))) for number in range(1025)]
    if "TOO_MANY_OUTPUTS" in broken:
        outputs = [Output(1, key_lock(1), b"")] * 257
    if "DUPLICATE_INPUT" in broken:
        inputs.append(inputs[-1])
    if "COIN_UNKNOWN" in broken:
        inputs.insert(0, spend(CoinId(b"u" * 32)))
    if "COIN_SPENT" in broken:
        inputs.append(spend(SPENT))
    if "IMMATURE_COIN" in broken:
        inputs.append(spend(YOUNG))
        outputs.append(Output(VALUE, key_lock(1), b""))
    if "LOCK_MISMATCH" in broken:
        inputs.append(spend(OTHERS))
        outputs.append(Output(VALUE, key_lock(1), b""))
    if "BAD_CONDITION" in broken:
        inputs[0] = spend(CoinId(inputs[0].coin_id), b"\x07")
    if "BAD_NOTE" in broken:
        outputs.append(Output(1, key_lock(1), b"n"))
    if "ZERO_VALUE" in broken:
        outputs.append(Output(0, key_lock(1), b""))
    if "VALUE_OVERFLOW" in broken:
        fields["fee"] = MAX_AMOUNT
    if "LOCKED_UNTIL_HEIGHT" in broken:
        fields["lock_height"] = HEIGHT + 1
    if "FEE_MISMATCH" in broken:
        outputs.append(Output(1, key_lock(1), b""))
    if "NO_INPUTS" in broken:
        inputs = []
    if "NO_OUTPUTS" in broken:
        outputs = []
    if "CONDITION_UNMET" in broken:
        keys = set()
    if "UNUSED_SIGNATURE" in broken:
        keys = keys | {3}
    if "UNUSED_PREIMAGE" in broken:
        fields["preimages"] = (PREIMAGES[0],)
    if "BAD_ORDER" in broken:
        fields["preimages"] = (PREIMAGES[1], PREIMAGES[0])
    transfer = Transfer(1, NET.chain_id, 0, 0, tuple(inputs), tuple(outputs), (), ())
    sized = FORGE.signed(msgspec.structs.replace(transfer, **fields), keys)
    if "BAD_SIGNATURE" in broken:
        sized = of(msgspec.structs.replace(sized.transfer, signatures=forged(sized, keys)))
    return sized.raw


def forged(sized: SizedTransfer, keys: set[int]) -> Any:
    if not keys:
        keys = {3}  # a signature by nobody who is asked for one
        sized = FORGE.signed(sized.transfer, keys)
    first, *rest = sized.transfer.signatures
    raw = bytearray(first.signature)
    raw[7] ^= 1
    return (msgspec.structs.replace(first, signature=bytes(raw)), *rest)


def test_a_transfer_that_breaks_no_rule_passes() -> None:
    judge(break_rules(set()))


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_by_itself(rule: str) -> None:
    raw = break_rules({rule})
    assert rule_broken(lambda: judge(raw)) == rule


@pytest.mark.parametrize(
    ("earlier", "later"),
    [pair for pair in combinations(RULES, 2) if pair not in IMPOSSIBLE],
)
def test_the_earlier_of_two_rules_is_named(earlier: str, later: str) -> None:
    raw = break_rules({earlier, later})
    assert rule_broken(lambda: judge(raw)) == earlier


def test_size_comes_before_encoding_and_encoding_before_all_else() -> None:
    assert rule_broken(lambda: judge(bytes(MAX_TRANSFER_ENCODED + 1))) == "TRANSFER_TOO_LARGE"
    assert rule_broken(lambda: judge(bytes(MAX_TRANSFER_ENCODED))) == "NON_CANONICAL"
    assert rule_broken(lambda: judge(b"")) == "NON_CANONICAL"
    assert rule_broken(lambda: judge(break_rules({"BAD_VERSION"}) + b"\x00")) == "NON_CANONICAL"


# Boundaries


def made(inputs: list[Input], outputs: list[Output], keys: set[int], **fields: Any) -> bytes:
    transfer = Transfer(1, NET.chain_id, 0, 0, tuple(inputs), tuple(outputs), (), ())
    return FORGE.signed(msgspec.structs.replace(transfer, **fields), keys).raw


def test_the_most_inputs_and_outputs() -> None:
    coins = {
        CoinId(number.to_bytes(32, "big")): UnspentCoin(10, key_lock(0), 1, False)
        for number in range(1024)
    }
    inputs = [spend(coin_id) for coin_id in coins]
    outputs = [Output(1, key_lock(1), b"")] * 256
    judge(made(inputs, outputs, {0}, fee=10_240 - 256), Coins(coins))


@pytest.mark.parametrize(
    ("size", "fits"), [(1, False), (1104, False), (1359, False), (1360, True), (1361, False)]
)
def test_the_sizes_of_notes(size: int, fits: bool) -> None:
    raw = made([spend(OWN[0])], [Output(VALUE, key_lock(1), bytes(size))], {0})
    if fits:
        judge(raw)
    else:
        assert rule_broken(lambda: judge(raw)) == "BAD_NOTE"


def test_the_greatest_amounts() -> None:
    big = {CoinId(b"b" * 32): UnspentCoin(MAX_AMOUNT, key_lock(0), 1, False)}
    inputs = [spend(CoinId(b"b" * 32))]
    judge(made(inputs, [Output(MAX_AMOUNT, key_lock(1), b"")], {0}), Coins(big))
    over = made(inputs, [Output(MAX_AMOUNT, key_lock(1), b"")], {0}, fee=1)
    assert rule_broken(lambda: judge(over, Coins(big))) == "VALUE_OVERFLOW"
    huge = made(inputs, [Output(2**64 - 1, key_lock(1), b"")], {0})
    assert rule_broken(lambda: judge(huge, Coins(big))) == "VALUE_OVERFLOW"


def test_heights_are_inclusive() -> None:
    outputs = [Output(VALUE, key_lock(1), b"")]
    judge(made([spend(OWN[0])], outputs, {0}, lock_height=HEIGHT))
    ripe = {YOUNG: UnspentCoin(VALUE, key_lock(0), HEIGHT - NET.maturity, True)}
    judge(made([spend(YOUNG)], outputs, {0}), Coins(ripe))
    output = {YOUNG: UnspentCoin(VALUE, key_lock(0), HEIGHT, False)}
    judge(made([spend(YOUNG)], outputs, {0}), Coins(output))


def test_signatures_are_strictly_ascending_by_key_hash() -> None:
    raw = made([spend(OWN[0])], [Output(VALUE, key_lock(1), b"")], {0, 3})
    transfer = decode_transfer(raw).transfer
    for signatures in (transfer.signatures[::-1], transfer.signatures[:1] * 2):
        other = of(msgspec.structs.replace(transfer, signatures=signatures)).raw
        assert rule_broken(lambda other=other: judge(other)) == "BAD_ORDER"
    # Of several, also where only two are the wrong way round.
    low, middle, high = decode_transfer(
        made([spend(OWN[0])], [Output(VALUE, key_lock(1), b"")], {0, 3, 4})
    ).transfer.signatures
    for signatures in ((low, high, middle), (middle, low, high), (low, middle, middle)):
        other = of(msgspec.structs.replace(transfer, signatures=signatures)).raw
        assert rule_broken(lambda other=other: judge(other)) == "BAD_ORDER"
    twice = of(msgspec.structs.replace(transfer, preimages=(ZERO32, ZERO32))).raw
    assert rule_broken(lambda: judge(twice)) == "BAD_ORDER"


@pytest.mark.parametrize("change", ["fee", "lock_height", "outputs", "inputs"])
def test_all_that_matters_is_signed(change: str) -> None:
    sized = decode_transfer(made([spend(OWN[0])], [Output(VALUE, key_lock(1), b"")], {0}))
    changed: dict[str, Any] = {
        "fee": {"fee": 1, "outputs": (Output(VALUE - 1, key_lock(1), b""),)},
        "lock_height": {"lock_height": 1},
        "outputs": {"outputs": (Output(VALUE, key_lock(2), b""),)},
        "inputs": {"inputs": (spend(OWN[1]),)},
    }[change]
    other = of(msgspec.structs.replace(sized.transfer, **changed)).raw
    assert rule_broken(lambda: judge(other)) == "BAD_SIGNATURE"


# Conditions


def guarded(condition: Condition, keys: set[int], **fields: Any) -> str | None:
    """Spend a coin under a condition, signed by keys; return the rule that this breaks."""
    raw_condition = condition.to_bytes()
    coin_id = CoinId(b"g" * 32)
    salt = b"\x07" * 32
    coins = Coins({coin_id: UnspentCoin(VALUE, lock_of(raw_condition, salt), 1, False)})
    raw = made(
        [spend(coin_id, raw_condition, salt)], [Output(VALUE, key_lock(1), b"")], keys, **fields
    )
    try:
        judge(raw, coins)
    except ProtocolError as error:
        return error.name
    return None


def by_hash(*keys: int) -> list[int]:
    return sorted(keys, key=lambda key: spend_key(key).key_hash)


def multisig(threshold: int, *keys: int) -> MultisigCondition:
    return MultisigCondition(threshold, tuple(spend_key(key).key_hash for key in by_hash(*keys)))


def test_a_multisig_uses_the_lowest_keys_that_signed() -> None:
    low, middle, high = by_hash(0, 1, 2)
    condition = multisig(2, 0, 1, 2)
    for keys in ({low, middle}, {low, high}, {middle, high}):
        assert guarded(condition, keys) is None
    for keys in (set(), {low}, {high}):
        assert guarded(condition, keys) == "CONDITION_UNMET"
    assert guarded(condition, {low, middle, high}) == "UNUSED_SIGNATURE"
    assert guarded(condition, {low, middle, 9}) == "UNUSED_SIGNATURE"
    assert guarded(multisig(1, 4), {4}) is None
    sixteen = multisig(16, *range(16))
    assert guarded(sixteen, set(range(16))) is None


DIGEST = hashlib.sha256(PREIMAGES[0]).digest()


def swap(height: int) -> HashTimeLockCondition:
    return HashTimeLockCondition(DIGEST, spend_key(1).key_hash, spend_key(2).key_hash, height)


def test_a_claim_needs_the_preimage_and_the_claim_key() -> None:
    shown = {"preimages": (PREIMAGES[0],)}
    assert guarded(swap(HEIGHT), {1}, **shown) is None
    assert guarded(swap(HEIGHT), {2}, **shown) == "CONDITION_UNMET"
    assert guarded(swap(0), {2}, **shown) == "CONDITION_UNMET"
    assert guarded(swap(0), {1, 2}, **shown) == "UNUSED_SIGNATURE"
    assert guarded(swap(HEIGHT), {1}) == "CONDITION_UNMET"
    assert guarded(swap(HEIGHT), {1}, preimages=(PREIMAGES[1],)) == "CONDITION_UNMET"
    assert guarded(swap(HEIGHT), {1}, preimages=tuple(PREIMAGES)) == "UNUSED_PREIMAGE"


def test_a_refund_needs_the_height_and_the_refund_key() -> None:
    assert guarded(swap(HEIGHT), {2}, lock_height=HEIGHT) is None
    assert guarded(swap(HEIGHT), {2}, lock_height=HEIGHT - 1) == "CONDITION_UNMET"
    assert guarded(swap(HEIGHT), {1}, lock_height=HEIGHT) == "CONDITION_UNMET"
    assert guarded(swap(0), {2}) is None
    assert guarded(swap(0), {2}, preimages=(PREIMAGES[1],)) == "UNUSED_PREIMAGE"


def test_one_signature_serves_many_inputs() -> None:
    judge(made([spend(OWN[0]), spend(OWN[1])], [Output(2 * VALUE, key_lock(1), b"")], {0}))


@pytest.mark.parametrize(
    "condition",
    [
        b"",
        b"\x00" + bytes(31),
        b"\x00" + bytes(33),
        b"\x01",
        b"\x01\x00\x01" + bytes(32),
        b"\x01\x02\x01" + bytes(32),
        b"\x01\x01\x11" + bytes(32 * 17),
        b"\x01\x01\x02" + bytes(64),
        b"\x02" + bytes(103),
        b"\x03" + bytes(32),
    ],
)
def test_what_is_no_condition(condition: bytes) -> None:
    raw = made([spend(OWN[0], condition)], [Output(VALUE, key_lock(1), b"")], {0})
    assert rule_broken(lambda: judge(raw)) == "BAD_CONDITION"
