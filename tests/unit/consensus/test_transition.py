"""Anchors: each rule of §5.2, their order, what the odd coins are, and what is minted (§5.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import msgspec
import pytest

from tests.framework.forge import Forge, Forged
from tests.framework.model import slow_body_root
from tests.framework.rules import ForgedBranch, context_of, rule_broken
from tests.framework.vectors import load
from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.errors import BadBodyRootError, BodyMissingError
from unchained.node.consensus.mints import CoinKind, Mint
from unchained.node.consensus.params import MAIN, REG
from unchained.node.consensus.transition import (
    NOT_CONDEMNING,
    body_root,
    check_anchor_grade,
    check_body_root,
    check_header,
    count_anchor,
    mints_of,
)
from unchained.node.consensus.uncles import check_uncle
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.transfer import wid_of
from unchained.node.primitives.types import CoinId, Wid

RETARGETING = msgspec.structs.replace(REG, tau_ms=20_000)


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.fixture(scope="module")
def tip(forge: Forge) -> Forged:
    """The last of twenty empty anchors."""
    return forge.grow(forge.genesis, 20)


class Contents:
    """All that an anchor lists but the coins that are `unseen`."""

    def __init__(self, anchor: Forged, unseen: Sequence[Coin]) -> None:
        self._anchor = anchor
        self._hidden = {coin.id for coin in unseen}

    def coin(self, coin_id: CoinId) -> Coin | None:
        return None if coin_id in self._hidden else self._anchor.coins.get(coin_id)

    def encoded_length(self, wid: Wid) -> int | None:
        raw = self._anchor.transfers.get(wid)
        return None if raw is None else len(raw)


def judge(forge: Forge, parent: Forged, anchor: Forged, unseen: Sequence[Coin] = ()) -> list[Mint]:
    """Judge an anchor by all of §5.2 but mixes, knowing what it lists but `unseen`."""
    contents = Contents(anchor, unseen)
    branch = ForgedBranch(parent)
    mints = count_anchor(anchor.coin, anchor.body, contents, branch, forge.network)
    assert mints == mints_of(anchor.coin, anchor.body, contents, branch, forge.network)
    return mints


def rule_of(forge: Forge, parent: Forged, anchor: Forged) -> str:
    return rule_broken(lambda: judge(forge, parent, anchor))


def back(anchor: Forged, steps: int) -> Forged:
    return anchor.chain()[-1 - steps]


# What a body is, whatever it lists


def test_a_full_body_passes_and_mints(forge: Forge, tip: Forged) -> None:
    fresh = [forge.coin(tip) for _ in range(3)]
    late = [forge.coin(back(tip, 2)), forge.coin(back(tip, 1))]
    loser = forge.anchor(back(tip, 1))
    stray = forge.coin(loser)
    anchor = forge.anchor(tip, fresh, [*late, loser.coin, stray])
    mints = judge(forge, tip, anchor)
    assert mints[0] == Mint(anchor.coin, CoinKind.ANCHOR, REG.subsidy)
    listed = [*anchor.body.fresh, *anchor.body.uncles]
    assert [mint.coin.id for mint in mints[1:]] == listed
    kinds = {mint.coin.id: mint.kind for mint in mints}
    assert kinds[stray.id] is CoinKind.STRAY
    assert kinds[loser.id] is kinds[late[0].id] is CoinKind.LATE
    assert body_root(anchor.body) == slow_body_root(anchor.body)


def test_an_anchor_has_to_be_of_anchor_grade(forge: Forge, tip: Forged) -> None:
    coin = forge.coin(tip, grade=False)
    assert rule_broken(lambda: check_anchor_grade(coin, REG)) == "NOT_ANCHOR"


def test_an_anchor_does_not_count_without_its_grade_and_its_body(forge: Forge, tip: Forged) -> None:
    """§5.2 begins with both, the grade first; a body that is another's condemns nobody."""
    assert set(NOT_CONDEMNING) == {BodyMissingError, BadBodyRootError}
    coin = forge.coin(tip, grade=False)
    plain = forge.adopt(tip, coin, forge.body(tip))
    assert rule_of(forge, tip, plain) == "NOT_ANCHOR"
    good = forge.anchor(tip)
    other = msgspec.structs.replace(good.body, state_root=bytes(32))
    assert rule_of(forge, tip, forge.adopt(tip, good.coin, other)) == "BAD_BODY_ROOT"
    assert rule_of(forge, tip, forge.adopt(tip, coin, other)) == "NOT_ANCHOR"
    many = msgspec.structs.replace(good.body, fresh=ids(MOST + 1))
    assert rule_of(forge, tip, forge.adopt(tip, good.coin, many)) == "BAD_BODY_ROOT"


def header_of(
    forge: Forge,
    parent: Forged,
    anchor: Forged,
    *,
    lists: tuple[int, int, int] = (0, 0, 0),
    history_root: bytes | None = None,
    now_ms: int | None = None,
    with_history: bool = True,
) -> AnchorContext:
    """Check an anchor by its header alone (§11)."""
    known = context_of(parent)
    if not with_history:
        known = msgspec.structs.replace(known, history=None)
    root = anchor.body.history_root if history_root is None else history_root
    return check_header(anchor.coin, *lists, root, known, forge.network, now_ms)


def test_a_header_gives_the_context_of_its_children(forge: Forge, tip: Forged) -> None:
    anchor = forge.anchor(tip, [forge.coin(tip), forge.coin(tip)], [forge.coin(back(tip, 1))])
    assert header_of(forge, tip, anchor, lists=(2, 1, 0)) == context_of(anchor)
    bare = header_of(forge, tip, anchor, lists=(2, 1, 0), with_history=False)
    assert bare == msgspec.structs.replace(context_of(anchor), history=None)


def test_a_header_passes_all_that_needs_no_body(forge: Forge, tip: Forged) -> None:
    good = forge.anchor(tip)

    def rule(anchor: Forged = good, **given: Any) -> str:
        return rule_broken(lambda: header_of(forge, tip, anchor, **given))

    assert rule(forge.anchor(tip, version=2)) == "BAD_VERSION"
    assert rule(forge.anchor(tip, chain_id=MAIN.chain_id)) == "WRONG_CHAIN"
    assert rule(forge.anchor(tip, n_total=3)) == "BAD_N_TOTAL"
    plain = forge.adopt(tip, forge.coin(tip, grade=False), forge.body(tip))
    assert rule(plain) == "NOT_ANCHOR"
    header_of(forge, tip, good, lists=(MOST, MOST, REG.max_transfers))
    assert rule(lists=(MOST + 1, 0, 0)) == "TOO_MANY_COINS"
    assert rule(lists=(0, MOST + 1, 0)) == "TOO_MANY_COINS"
    assert rule(lists=(0, 0, REG.max_transfers + 1)) == "TOO_MANY_TRANSFERS"
    assert rule(history_root=bytes(32)) == "BAD_HISTORY_ROOT"
    # Far below the tip it is not kept, and not asked for.
    header_of(forge, tip, good, history_root=bytes(32), with_history=False)
    latest = good.time - REG.future_limit_ms
    header_of(forge, tip, good, now_ms=latest)
    assert rule(now_ms=latest - 1) == "TIME_TOO_NEW"


def test_the_body_has_to_be_that_of_the_header(forge: Forge, tip: Forged) -> None:
    anchor = forge.anchor(tip)
    for field in ("state_root", "history_root"):
        other = msgspec.structs.replace(anchor.body, **{field: bytes(32)})
        assert (
            rule_broken(lambda body=other: check_body_root(anchor.coin, body_root(body)))
            == "BAD_BODY_ROOT"
        )
    for field in ("fresh", "uncles", "transfers"):
        other = msgspec.structs.replace(anchor.body, **{field: (bytes(32),)})
        assert (
            rule_broken(lambda body=other: check_body_root(anchor.coin, body_root(body)))
            == "BAD_BODY_ROOT"
        )


MOST = REG.max_listed


def ids(count: int) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(32, "big") for number in range(1, count + 1))


LARGE = bytes(200_000)
"""What a transfer may be by its length alone."""

BODY_RULES: dict[str, Callable[[dict[str, Any]], object]] = {
    "TOO_MANY_COINS": lambda body: body.update(uncles=ids(MOST + 1)),
    "TOO_MANY_TRANSFERS": lambda body: body.update(
        transfers=(*body["transfers"], *ids(REG.max_transfers + 1))
    ),
    "BODY_TOO_LARGE": lambda body: body.update(
        transfers=(*body["transfers"], *(wid_of(LARGE) for _ in range(21)))
    ),
    "BODY_MISSING": lambda body: body.update(transfers=(*body["transfers"], bytes(32))),
    "BAD_ORDER": lambda body: body.update(fresh=body["fresh"][::-1]),
    "BAD_HISTORY_ROOT": lambda body: body.update(history_root=bytes(32)),
}
"""In the order of the text."""


def broken_body(forge: Forge, tip: Forged, *rules: str) -> Forged:
    """Return an anchor of two fresh coins whose body breaks rules."""
    fresh = [forge.coin(tip), forge.coin(tip)]
    changes: dict[str, Any] = {
        "fresh": tuple(sorted(coin.id for coin in fresh)),
        "transfers": (),
    }
    for rule in rules:
        BODY_RULES[rule](changes)
    return forge.anchor(tip, fresh, raw_transfers={wid_of(LARGE): LARGE}, body_fields=changes)


@pytest.mark.parametrize("rule", BODY_RULES)
def test_each_rule_of_the_lists(forge: Forge, tip: Forged, rule: str) -> None:
    judge(forge, tip, broken_body(forge, tip))
    assert rule_of(forge, tip, broken_body(forge, tip, rule)) == rule


@pytest.mark.parametrize(("earlier", "later"), list(combinations(BODY_RULES, 2)))
def test_the_earlier_rule_of_the_lists_is_named(
    forge: Forge, tip: Forged, earlier: str, later: str
) -> None:
    assert rule_of(forge, tip, broken_body(forge, tip, later, earlier)) == earlier


@pytest.mark.parametrize("listed", ["fresh", "uncles"])
def test_lists_may_be_full_and_must_be_strictly_ascending(
    forge: Forge, tip: Forged, listed: str
) -> None:
    full = forge.anchor(tip, body_fields={listed: ids(MOST)})
    assert rule_of(forge, tip, full) == "BODY_MISSING"
    over = forge.anchor(tip, body_fields={listed: ids(MOST + 1)})
    assert rule_of(forge, tip, over) == "TOO_MANY_COINS"
    coin = forge.coin(tip)
    twice = forge.anchor(tip, [coin], body_fields={listed: (coin.id, coin.id)})
    assert rule_of(forge, tip, twice) == "BAD_ORDER"


def test_transfers_may_be_as_many_as_their_size_allows(forge: Forge, tip: Forged) -> None:
    most = forge.anchor(tip, body_fields={"transfers": ids(4_096)})
    assert rule_of(forge, tip, most) == "BODY_MISSING"
    over = forge.anchor(tip, body_fields={"transfers": ids(4_097)})
    assert rule_of(forge, tip, over) == "TOO_MANY_TRANSFERS"


def test_encoded_bytes_count_as_often_as_they_are_listed(forge: Forge, tip: Forged) -> None:
    raws = {wid_of(raw): raw for raw in (bytes(256 << 10), bytes(1))}
    large, small = raws
    for listed, rule in (
        ((large,) * 16, None),
        ((large,) * 16 + (small,), "BODY_TOO_LARGE"),
        # no more is needed to say so
        ((large,) * 16 + (small, bytes(32)), "BODY_TOO_LARGE"),
        ((large,) * 16 + (bytes(32),), "BODY_MISSING"),
    ):
        anchor = forge.anchor(tip, raw_transfers=raws, body_fields={"transfers": listed})
        if rule is None:
            judge(forge, tip, anchor)
        else:
            assert rule_of(forge, tip, anchor) == rule


def test_transfers_above_256_kib_are_not_read(forge: Forge, tip: Forged) -> None:
    raw = bytes((256 << 10) + 1)
    anchor = forge.anchor(
        tip, raw_transfers={wid_of(raw): raw}, body_fields={"transfers": (wid_of(raw),) * 17}
    )
    assert rule_of(forge, tip, anchor) == "BODY_MISSING"


# Fresh coins


def test_a_fresh_coin_is_bound_to_the_parent(forge: Forge, tip: Forged) -> None:
    older = forge.coin(back(tip, 1))
    assert rule_of(forge, tip, forge.anchor(tip, [older])) == "FRESH_WRONG_PARENT"


FRESH_FIELDS: dict[str, dict[str, Any]] = {
    "BAD_VERSION": {"version": 0},
    "WRONG_CHAIN": {"chain_id": MAIN.chain_id},
    "BAD_HEIGHT": {"height": 22},
    "BAD_N_TOTAL": {"n_total": 0},
    "BAD_TARGET": {"target": REG.target0 - 1},
    "TIME_NOT_AFTER_PARENT": {"time": 0},
}


@pytest.mark.parametrize("rule", FRESH_FIELDS)
def test_a_fresh_coin_passes_the_rules_of_coins(forge: Forge, tip: Forged, rule: str) -> None:
    coin = forge.coin(tip, **FRESH_FIELDS[rule])
    assert rule_of(forge, tip, forge.anchor(tip, [coin])) == rule


def above_own_target(forge: Forge, parent: Forged, **fields: Any) -> Coin:
    """Return a coin whose id is above the target that it names itself."""
    coin = forge.coin(parent, **fields)
    header = msgspec.structs.replace(coin.header, target=1)
    raw = header.to_bytes() + coin.mix
    return Coin(header, coin.mix, raw, coin.id)


def test_a_fresh_coin_has_to_meet_its_own_target(forge: Forge, tip: Forged) -> None:
    coin = above_own_target(forge, tip)
    assert rule_of(forge, tip, forge.anchor(tip, [coin])) == "HIGH_HASH"


def test_listed_coins_may_be_stale_and_ahead_of_any_clock(forge: Forge, tip: Forged) -> None:
    time = tip.time + 10**15
    coin = forge.coin(tip, time=time)
    judge(forge, tip, forge.anchor(tip, [coin], [forge.coin(back(tip, 8))], time=time))


def test_listed_coins_are_not_far_ahead_of_the_anchor(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(back(tip, 2))
    latest = tip.time + REG.epoch_ms + REG.future_limit_ms
    for time, rule in (
        (latest, None),
        (latest + 1, "LISTED_TOO_NEW"),
        (2**64 - 1, "LISTED_TOO_NEW"),
    ):
        for parent, lists in (
            (tip, lambda coin: ([coin], [])),
            (back(tip, 3), lambda coin: ([], [coin])),
            (loser, lambda coin: ([], [loser.coin, coin])),
        ):
            fresh, uncles = lists(forge.coin(parent, time=time))
            anchor = forge.anchor(tip, fresh, uncles)
            if rule is None:
                judge(forge, tip, anchor)
            else:
                assert rule_of(forge, tip, anchor) == rule


def test_being_too_new_comes_after_inclusion_and_before_ancestry(forge: Forge, tip: Forged) -> None:
    late = forge.coin(tip, time=2**63)
    after = forge.anchor(tip, [late], time=2**63)
    again = forge.anchor(after, [late], time=after.time + 1)
    assert rule_of(forge, after, again) == "ALREADY_INCLUDED"
    older = forge.coin(back(tip, 1), time=2**63)
    assert rule_of(forge, tip, forge.anchor(tip, [older])) == "LISTED_TOO_NEW"
    assert rule_of(forge, tip, forge.anchor(tip, (), [forge.coin(tip, time=2**63)])) == (
        "LISTED_TOO_NEW"
    )


# Late coins


@pytest.mark.parametrize("age", range(1, REG.window + 1))
def test_a_late_coin_mints_by_its_age(forge: Forge, tip: Forged, age: int) -> None:
    coin = forge.coin(back(tip, age))
    mints = judge(forge, tip, forge.anchor(tip, (), [coin]))
    assert mints[1] == Mint(coin, CoinKind.LATE, load("amounts")["late"][str(age)])


def test_the_window_of_late_coins(forge: Forge, tip: Forged) -> None:
    for parent in (tip, back(tip, REG.window + 1)):
        anchor = forge.anchor(tip, (), [forge.coin(parent)])
        assert rule_of(forge, tip, anchor) == "UNCLE_OUT_OF_WINDOW"


@pytest.mark.parametrize("rule", [rule for rule in FRESH_FIELDS if rule != "BAD_HEIGHT"])
def test_a_late_coin_passes_the_rules_of_coins(forge: Forge, tip: Forged, rule: str) -> None:
    coin = forge.coin(back(tip, 3), **FRESH_FIELDS[rule])
    assert rule_of(forge, tip, forge.anchor(tip, (), [coin])) == rule


def test_a_late_coin_of_another_height_has_no_ancestry(forge: Forge, tip: Forged) -> None:
    for height in (0, 17, 19, 20, 21, 22, 2**64 - 1):
        coin = forge.coin(back(tip, 3), height=height)
        assert rule_of(forge, tip, forge.anchor(tip, (), [coin])) == "UNCLE_BAD_ANCESTRY"


def test_a_losing_anchor_may_be_late_and_fresh(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(back(tip, 1)).coin
    assert judge(forge, tip, forge.anchor(tip, (), [loser]))[1].kind is CoinKind.LATE
    brother = forge.anchor(tip).coin
    assert judge(forge, tip, forge.anchor(tip, [brother]))[1].kind is CoinKind.FRESH


# Coins that were included before


def test_nothing_is_included_twice(forge: Forge, tip: Forged) -> None:
    fresh, late = forge.coin(tip), forge.coin(back(tip, 1))
    loser = forge.anchor(back(tip, 1))
    stray = forge.coin(loser)
    after = forge.anchor(tip, [fresh], [late, loser.coin, stray])
    for coin in (fresh, late, loser.coin, stray):
        for lists in (([coin], []), ([], [coin])):
            again = forge.anchor(after, *lists)
            assert rule_of(forge, after, again) == "ALREADY_INCLUDED"
    for anchor in tip.chain():
        again = forge.anchor(after, [anchor.coin])
        assert rule_of(forge, after, again) == "ALREADY_INCLUDED"


def test_being_included_comes_before_all_else(forge: Forge, tip: Forged) -> None:
    coin = forge.coin(tip)
    after = forge.anchor(tip, [coin])
    assert rule_of(forge, after, forge.anchor(after, [coin])) == "ALREADY_INCLUDED"
    far = forge.grow(after, REG.window + 1)
    assert rule_of(forge, far, forge.anchor(far, (), [coin])) == "ALREADY_INCLUDED"


def test_a_coin_is_not_both_fresh_and_uncle(forge: Forge, tip: Forged) -> None:
    coin = forge.coin(tip)
    assert rule_of(forge, tip, forge.anchor(tip, [coin], [coin])) == "UNCLE_OUT_OF_WINDOW"


# Stray coins


def test_a_stray_mints_a_quarter(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(back(tip, 1))
    stray = forge.coin(loser)
    mints = judge(forge, tip, forge.anchor(tip, (), [loser.coin, stray]))
    by_id = {mint.coin.id: mint for mint in mints}
    assert by_id[stray.id] == Mint(stray, CoinKind.STRAY, load("amounts")["stray"])


@pytest.mark.parametrize("age", range(REG.window + 2))
def test_the_window_of_strays(forge: Forge, tip: Forged, age: int) -> None:
    loser = forge.anchor(tip)
    stray = forge.coin(loser)
    listing = forge.anchor(tip)
    uncles = [loser.coin, stray]
    if age > 0:
        listing = forge.grow(forge.anchor(listing, (), [loser.coin]), age - 1)
        uncles = [stray]
    anchor = forge.anchor(listing, (), uncles)
    assert anchor.height - stray.height == age
    if age <= REG.window:
        kinds = {mint.coin.id: mint.kind for mint in judge(forge, listing, anchor)}
        assert kinds[stray.id] is CoinKind.STRAY
    else:
        assert rule_of(forge, listing, anchor) == "UNCLE_OUT_OF_WINDOW"


def test_a_stray_from_above_is_out_of_the_window(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(tip)
    higher = forge.anchor(loser)
    stray = forge.coin(higher)
    listing = forge.anchor(tip)
    anchor = forge.anchor(listing, (), [loser.coin, higher.coin, stray])
    assert rule_of(forge, listing, anchor) == "UNCLE_OUT_OF_WINDOW"
    highest = forge.anchor(higher)
    of_highest = forge.coin(highest)
    anchor = forge.anchor(listing, (), [loser.coin, higher.coin, of_highest])
    assert rule_of(forge, listing, anchor) == "UNCLE_BAD_ANCESTRY"


def test_a_strays_parent_may_have_been_listed_long_ago(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(back(tip, 1))
    after = forge.anchor(tip, (), [loser.coin])
    far = forge.grow(after, 5)
    stray = forge.coin(loser)
    assert judge(forge, far, forge.anchor(far, (), [stray]))[1].kind is CoinKind.STRAY
    second = forge.anchor(loser)
    of_stray = forge.coin(second)
    anchor = forge.anchor(far, (), [stray, second.coin, of_stray])
    assert {mint.kind for mint in judge(forge, far, anchor)[1:]} == {CoinKind.STRAY}


def test_a_strays_parent_has_to_be_listed_as_uncle_or_before(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(back(tip, 1))
    stray = forge.coin(loser)
    assert rule_of(forge, tip, forge.anchor(tip, (), [stray])) == "UNCLE_BAD_ANCESTRY"
    brother = forge.anchor(tip)
    nephew = forge.coin(brother)
    anchor = forge.anchor(tip, [brother.coin], [nephew])
    assert rule_of(forge, tip, anchor) == "UNCLE_BAD_ANCESTRY"


def test_a_strays_parent_has_to_be_of_anchor_grade_by_this_chain(forge: Forge, tip: Forged) -> None:
    plain = forge.coin(back(tip, 1), grade=False)
    as_parent = forge.adopt(back(tip, 1), plain, forge.body(back(tip, 1)))
    stray = forge.coin(as_parent)
    anchor = forge.anchor(tip, (), [plain, stray])
    assert rule_of(forge, tip, anchor) == "UNCLE_BAD_ANCESTRY"


def test_a_strays_height_and_time_follow_its_parent(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(back(tip, 3))
    for height in (0, loser.height, loser.height + 2):
        stray = forge.coin(loser, height=height)
        anchor = forge.anchor(tip, (), [loser.coin, stray])
        assert rule_of(forge, tip, anchor) == "BAD_HEIGHT"
    stray = forge.coin(loser, time=loser.time)
    anchor = forge.anchor(tip, (), [loser.coin, stray])
    assert rule_of(forge, tip, anchor) == "TIME_NOT_AFTER_PARENT"


def test_of_a_strays_header_little_is_looked_at(forge: Forge, tip: Forged) -> None:
    loser = forge.anchor(back(tip, 2))
    stray = forge.coin(loser, n_total=77, body_root=bytes(32), target=loser.target + 5)
    judge(forge, tip, forge.anchor(tip, (), [loser.coin, stray]))
    for fields, rule in (
        ({"version": 3}, "BAD_VERSION"),
        ({"chain_id": MAIN.chain_id}, "WRONG_CHAIN"),
    ):
        stray = forge.coin(loser, **fields)
        anchor = forge.anchor(tip, (), [loser.coin, stray])
        assert rule_of(forge, tip, anchor) == rule
    stray = above_own_target(forge, loser)
    anchor = forge.anchor(tip, (), [loser.coin, stray])
    assert rule_of(forge, tip, anchor) == "HIGH_HASH"


def test_a_stray_meets_the_target_of_this_chain_at_its_height() -> None:
    forge = Forge(RETARGETING)
    # many coins at once make a low target, a long time without any the easiest
    fast = forge.anchor(forge.genesis)
    for _ in range(4):
        fast = forge.anchor(fast, [forge.coin(fast) for _ in range(8)], time=fast.time + 1)
    fork = back(fast, 1)
    slow = forge.anchor(fork, time=fork.time + 10**6)
    assert fast.target < slow.target
    uncle = forge.coin(slow)
    while int.from_bytes(uncle.id, "big") <= fast.target:
        uncle = forge.coin(slow)
    anchor = forge.anchor(fast, (), [slow.coin, uncle])
    assert rule_of(forge, fast, anchor) == "UNCLE_HIGH_HASH"


def aside(coin: Coin, number: int) -> Coin:
    """Return a coin with an id of one's choosing, which no proof of work stands behind."""
    return Coin(coin.header, coin.mix, coin.raw, CoinId(number.to_bytes(32, "big")))


def test_the_bounds_of_strays_are_inclusive() -> None:
    """§5.2: `p.id <= t(p.height) // K`, `u.id <= t(u.height)`, of this chain's targets."""
    forge = Forge(REG)
    tip = forge.grow(forge.genesis, 4)
    branch = ForgedBranch(tip)
    target = REG.target0
    loser = forge.anchor(back(tip, 1)).coin
    stray = forge.coin(forge.adopt(back(tip, 1), loser, forge.body(back(tip, 1))))

    def rule(parent_id: int, coin_id: int) -> str:
        parent = aside(loser, parent_id)
        header = msgspec.structs.replace(stray.header, parent=parent.id, target=2**256 - 1)
        coin = aside(Coin(header, stray.mix, stray.raw, stray.id), coin_id)
        listed = {parent.id: parent}
        given = (tip.height + 1, tip.time + 1_000, target, listed, branch, REG)
        try:
            check_uncle(coin, *given)
        except ProtocolError as error:
            return error.name
        return ""

    grade = target // REG.coins_per_epoch
    assert rule(grade, target) == ""
    assert rule(grade + 1, target) == "UNCLE_BAD_ANCESTRY"
    assert rule(grade, target + 1) == "UNCLE_HIGH_HASH"


STRAY_RULES: dict[str, Callable[[Forged], dict[str, Any]]] = {
    "BAD_HEIGHT": lambda loser: {"height": loser.height + 20},
    "TIME_NOT_AFTER_PARENT": lambda loser: {"time": loser.time},
    "BAD_VERSION": lambda _: {"version": 9},
    "WRONG_CHAIN": lambda _: {"chain_id": 1},
}


@pytest.mark.parametrize(("earlier", "later"), list(combinations(STRAY_RULES, 2)))
def test_the_earlier_rule_of_strays_is_named(
    forge: Forge, tip: Forged, earlier: str, later: str
) -> None:
    loser = forge.anchor(back(tip, 2))
    stray = forge.coin(loser, **STRAY_RULES[later](loser), **STRAY_RULES[earlier](loser))
    anchor = forge.anchor(tip, (), [loser.coin, stray])
    assert rule_of(forge, tip, anchor) == earlier


def test_coins_are_judged_in_body_order_fresh_first(forge: Forge, tip: Forged) -> None:
    fresh = forge.coin(tip, version=2)
    late = forge.coin(back(tip, 1), n_total=99)
    assert rule_of(forge, tip, forge.anchor(tip, [fresh], [late])) == "BAD_VERSION"
    first, second = sorted(
        (forge.coin(tip, version=2), forge.coin(tip, n_total=99)), key=lambda coin: coin.id
    )
    rules = {2: "BAD_VERSION", 1: "BAD_N_TOTAL"}
    anchor = forge.anchor(tip, [first, second])
    assert rule_of(forge, tip, anchor) == rules[first.header.version]


# The very first anchors


def test_uncles_at_the_beginning_of_a_chain(forge: Forge) -> None:
    first = forge.anchor(forge.genesis)
    late = forge.coin(forge.genesis)
    assert judge(forge, first, forge.anchor(first, (), [late]))[1].kind is CoinKind.LATE
    loser = forge.anchor(forge.genesis)
    stray = forge.coin(loser)
    anchor = forge.anchor(first, (), [loser.coin, stray])
    assert {mint.kind for mint in judge(forge, first, anchor)[1:]} == {
        CoinKind.LATE,
        CoinKind.STRAY,
    }
    bottom = forge.coin(forge.genesis, height=0)
    assert rule_of(forge, first, forge.anchor(first, (), [bottom])) == "UNCLE_BAD_ANCESTRY"
    orphan = forge.mine(
        msgspec.structs.replace(forge.header(forge.genesis), height=0, parent=CoinId(bytes(32)))
    )
    assert rule_of(forge, first, forge.anchor(first, (), [orphan])) == "UNCLE_BAD_ANCESTRY"


def test_amounts_are_those_of_the_table(forge: Forge, tip: Forged) -> None:
    amounts = load("amounts")
    anchor = forge.anchor(tip, [forge.coin(tip)])
    assert [mint.value for mint in judge(forge, tip, anchor)] == [
        amounts["anchor"],
        amounts["fresh"],
    ]


def test_a_body_lacks_what_has_not_been_seen(forge: Forge, tip: Forged) -> None:
    coin = forge.coin(tip)
    anchor = forge.anchor(tip, [coin])
    assert rule_broken(lambda: judge(forge, tip, anchor, [coin])) == "BODY_MISSING"


def test_an_uncle_is_judged_alone_as_in_a_body(forge: Forge, tip: Forged) -> None:
    coin = forge.coin(back(tip, 4))
    branch = ForgedBranch(tip)
    mint = check_uncle(coin, tip.height + 1, tip.time + 1, tip.target, {}, branch, REG)
    assert mint == Mint(coin, CoinKind.LATE, load("amounts")["late"]["4"])
    assert context_of(tip).child_target == tip.target


def test_an_empty_body_is_a_body() -> None:
    assert Body((), (), (), bytes(32), bytes(32)).to_bytes()[0] == 0x95
