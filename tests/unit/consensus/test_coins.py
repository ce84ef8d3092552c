"""Coins: each rule of §3.3 by itself, and of any two that a coin breaks the earlier one."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import msgspec
import pytest

from tests.framework.forge import BACKEND, Forge, Forged
from tests.framework.rules import context_of, rule_broken
from unchained.node.consensus.coins import (
    check_coin_alone,
    check_coin_in_context,
    check_mix,
    check_parent,
    is_anchor_grade,
    is_too_new,
    parse_coin,
)
from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.params import MAIN, REG
from unchained.node.crypto.pow import compute_mix
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId

TIP_HEIGHT = 2_000

RULES = [
    "BAD_VERSION",
    "WRONG_CHAIN",
    "HIGH_HASH",
    "BAD_HEIGHT",
    "STALE_PARENT",
    "BAD_N_TOTAL",
    "BAD_TARGET",
    "TIME_NOT_AFTER_PARENT",
    "TIME_TOO_NEW",
    "BAD_MIX",
]
"""§3.3's order, the rules about which parent it is apart."""


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.fixture(scope="module")
def parent(forge: Forge) -> Forged:
    return forge.grow(forge.genesis, 2)


def make(forge: Forge, parent: Forged, broken: set[str]) -> Coin:
    fields: dict[str, Any] = {}
    if "BAD_VERSION" in broken:
        fields["version"] = 2
    if "WRONG_CHAIN" in broken:
        fields["chain_id"] = MAIN.chain_id
    if "BAD_HEIGHT" in broken:
        fields["height"] = parent.height + 2
    if "BAD_N_TOTAL" in broken:
        fields["n_total"] = parent.n_total + 1
    if "BAD_TARGET" in broken:
        fields["target"] = parent.target - 1
    if "TIME_NOT_AFTER_PARENT" in broken:
        fields["time"] = parent.time
    header = forge.header(parent, **fields)
    for nonce in range(10_000):
        header = msgspec.structs.replace(header, nonce=nonce)
        mix = compute_mix(BACKEND, header.to_bytes(), forge.network.mem_kib)
        if "BAD_MIX" in broken:
            mix = nonce.to_bytes(32, "big")
        coin = Coin.assemble(header, mix)
        if (int.from_bytes(coin.id, "big") > header.target) == ("HIGH_HASH" in broken):
            return coin
    raise AssertionError("no such coin")


def judge(forge: Forge, parent: Forged, coin: Coin, broken: set[str]) -> None:
    tip_height = TIP_HEIGHT if "STALE_PARENT" in broken else parent.height
    now_ms = coin.header.time
    if "TIME_TOO_NEW" in broken:
        now_ms -= forge.network.future_limit_ms + 1
    same = parse_coin(coin.raw)
    assert same == coin
    check_coin_alone(same, forge.network)
    check_coin_in_context(
        same, context_of(parent), forge.network, tip_height=tip_height, now_ms=now_ms
    )
    check_mix(same, forge.network, BACKEND)


def test_a_coin_that_breaks_no_rule_passes(forge: Forge, parent: Forged) -> None:
    judge(forge, parent, make(forge, parent, set()), set())


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_by_itself(forge: Forge, parent: Forged, rule: str) -> None:
    coin = make(forge, parent, {rule})
    assert rule_broken(lambda: judge(forge, parent, coin, {rule})) == rule


@pytest.mark.parametrize(("earlier", "later"), list(combinations(RULES, 2)))
def test_the_earlier_of_two_rules_is_named(
    forge: Forge, parent: Forged, earlier: str, later: str
) -> None:
    broken = {earlier, later}
    coin = make(forge, parent, broken)
    assert rule_broken(lambda: judge(forge, parent, coin, broken)) == earlier


@pytest.mark.parametrize("size", [0, 166, 197, 199])
def test_a_coin_of_another_length(size: int) -> None:
    assert rule_broken(lambda: parse_coin(bytes(size))) == "BAD_LENGTH"


def test_limits_are_inclusive(forge: Forge, parent: Forged) -> None:
    coin = make(forge, parent, set())
    limit = forge.network.future_limit_ms

    def check(tip_height: int, now_ms: int) -> None:
        check_coin_in_context(coin, context_of(parent), REG, tip_height=tip_height, now_ms=now_ms)

    check(parent.height + REG.max_reorg, coin.header.time - limit)
    stale = parent.height + REG.max_reorg + 1
    assert rule_broken(lambda: check(stale, coin.header.time)) == "STALE_PARENT"
    new = coin.header.time - limit - 1
    assert rule_broken(lambda: check(parent.height, new)) == "TIME_TOO_NEW"


def test_a_listed_coin_is_never_stale_or_too_new(forge: Forge, parent: Forged) -> None:
    coin = forge.coin(parent, time=parent.time + 10**12)
    check_coin_in_context(coin, context_of(parent), REG, tip_height=None, now_ms=None)


def test_an_id_of_exactly_the_target_is_a_coin(forge: Forge, parent: Forged) -> None:
    coin = forge.coin(parent)
    number = int.from_bytes(coin.id, "big")

    def of_target(target: int) -> Coin:
        return msgspec.structs.replace(
            coin, header=msgspec.structs.replace(coin.header, target=target)
        )

    check_coin_alone(of_target(number), REG)
    assert rule_broken(lambda: check_coin_alone(of_target(number - 1), REG)) == "HIGH_HASH"
    k = REG.coins_per_epoch
    assert is_anchor_grade(of_target(number * k), REG)
    assert not is_anchor_grade(of_target(number * k - 1), REG)


# The parent


class Parents:
    """The anchors of one chain, as a node knows them."""

    def __init__(self, tip: Forged) -> None:
        self.anchors = {anchor.id: anchor for anchor in tip.chain()}
        self.plain: list[Coin] = []
        self.invalid: set[CoinId] = set()
        self.bodyless: set[CoinId] = set()
        self.settled: set[CoinId] = set()

    def coin(self, coin_id: CoinId) -> Coin | None:
        found = self.anchors.get(coin_id)
        others = [coin for coin in self.plain if coin.id == coin_id]
        return found.coin if found is not None else others[0] if others else None

    def context_of(self, anchor_id: CoinId) -> AnchorContext | None:
        hidden = self.invalid | self.bodyless | self.settled
        return None if anchor_id in hidden else context_of(self.anchors[anchor_id])

    def is_invalid(self, anchor_id: CoinId) -> bool:
        return anchor_id in self.invalid

    def is_settled(self, anchor: Coin) -> bool:
        return anchor.id in self.settled


def test_a_coin_gets_the_context_of_its_parent(forge: Forge, parent: Forged) -> None:
    known = Parents(parent)
    for anchor in parent.chain():
        assert check_parent(forge.coin(anchor), known, REG) == context_of(anchor)


def test_genesis_counts_as_of_anchor_grade(forge: Forge, parent: Forged) -> None:
    """§10: though its id is not; nobody else's is above K times the target."""
    assert not is_anchor_grade(
        forge.genesis.coin, msgspec.structs.replace(REG, coins_per_epoch=2**200)
    )
    network = msgspec.structs.replace(REG, coins_per_epoch=2**200)
    known = Parents(parent)
    assert check_parent(forge.coin(forge.genesis), known, network).height == 0
    first = parent.chain()[1]
    assert rule_broken(lambda: check_parent(forge.coin(first), known, network)) == (
        "PARENT_NOT_ANCHOR"
    )


def test_each_rule_about_the_parent(forge: Forge, parent: Forged) -> None:
    coin = forge.coin(parent)

    def rule(known: Parents, of: Coin = coin) -> str:
        return rule_broken(lambda: check_parent(of, known, REG))

    known = Parents(parent)
    known.anchors.pop(parent.id)
    assert rule(known) == "UNKNOWN_PARENT"
    known = Parents(parent)
    plain = forge.coin(parent.chain()[1], grade=False)
    known.plain.append(plain)
    on_plain = forge.coin(forge.adopt(parent.chain()[1], plain, forge.body(parent.chain()[1])))
    assert rule(known, on_plain) == "PARENT_NOT_ANCHOR"
    known.invalid.add(plain.id)
    assert rule(known, on_plain) == "PARENT_NOT_ANCHOR"
    known.invalid.add(parent.id)
    assert rule(known) == "PARENT_INVALID"
    known = Parents(parent)
    known.bodyless.add(parent.id)
    assert rule(known) == "UNKNOWN_PARENT"


def test_below_what_can_be_voted_for_the_height_is_looked_at_first(
    forge: Forge, parent: Forged
) -> None:
    known = Parents(parent)
    known.settled.add(parent.id)
    for height, rule in (
        (parent.height, "BAD_HEIGHT"),
        (parent.height + 1, "STALE_PARENT"),
        (parent.height + 2, "BAD_HEIGHT"),
    ):
        coin = forge.coin(parent, height=height)
        assert rule_broken(lambda coin=coin: check_parent(coin, known, REG)) == rule


def test_how_far_ahead_a_coin_is(forge: Forge, parent: Forged) -> None:
    coin = forge.coin(parent)
    now_ms, limit = coin.header.time, REG.future_limit_ms
    assert not is_too_new(coin, now_ms - limit, REG)
    assert is_too_new(coin, now_ms - limit - 1, REG)
    assert not is_too_new(coin, now_ms - 2 * limit, REG, limits=2)
    assert is_too_new(coin, now_ms - 2 * limit - 1, REG, limits=2)
