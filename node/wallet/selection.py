"""Which coins a payment spends: pure.

First a search by branch and bound for coins that need no change (Murch, "An evaluation of coin
selection strategies", 2016), bounded in steps; then the largest first, with change.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.types import CoinId
from unchained.node.wallet.errors import ConsolidationNeededError, InsufficientFundsError
from unchained.node.wallet.records import Balance

MAX_STEPS: Final = 20_000
"""Steps of the search: some hundredths of a second."""

MAX_SEARCHED: Final = 1_000
"""Coins that the search looks at."""

Candidate = tuple[CoinId, int]
"""A coin's id and value in grains."""


class SelectionCosts(msgspec.Struct, frozen=True, gc=False):
    """What a transfer costs, in grains: `bare` without inputs and change; `per_input`; `change`
    for the output that brings change. `waste` is how much a transfer without change may pay
    above its fee; `least` the smallest change; `max_inputs` what one transfer holds."""

    bare: int
    per_input: int
    change: int
    waste: int
    least: int
    max_inputs: int


class Selection(msgspec.Struct, frozen=True, gc=False):
    """Coins to spend, and the change that they leave: 0 for none. Amounts in grains."""

    coins: tuple[CoinId, ...]
    total: int
    change: int


def select(
    amount: int,
    candidates: Sequence[Candidate],
    fitting: Sequence[Candidate],
    costs: SelectionCosts,
) -> Selection:
    """Choose coins that pay `amount` and the fee.

    `candidates` are the largest coins, largest first, at least `costs.max_inputs` of them if
    there are so many; `fitting` those that the search for an exact match looks at. Raises
    `InsufficientFundsError`, and `ConsolidationNeededError` where only the limit on inputs stands
    against it.
    """
    exact = _search(amount + costs.bare, fitting[:MAX_SEARCHED], costs)
    if exact is not None:
        return exact
    return _largest_first(amount + costs.bare, candidates, costs)


def _largest_first(need: int, candidates: Sequence[Candidate], costs: SelectionCosts) -> Selection:
    chosen: list[CoinId] = []
    total = 0
    for coin_id, value in candidates:
        if len(chosen) == costs.max_inputs:
            raise ConsolidationNeededError(need + costs.per_input * len(chosen), total)
        chosen.append(coin_id)
        total += value
        left = total - need - costs.per_input * len(chosen)
        if left >= costs.change + costs.least:
            return Selection(tuple(chosen), total, left - costs.change)
        if 0 <= left <= costs.waste:
            return Selection(tuple(chosen), total, 0)
    raise InsufficientFundsError(need + costs.per_input * max(len(chosen), 1), total)


def _search(need: int, coins: Sequence[Candidate], costs: SelectionCosts) -> Selection | None:
    """Return coins worth `need` to `need + waste` after what spending each costs, or None."""
    worth = sorted(
        ((value - costs.per_input, value, coin_id) for coin_id, value in coins), reverse=True
    )
    worth = [entry for entry in worth if entry[0] > 0]
    # rest[i]: what the coins from i on are worth together
    rest = list(accumulate((entry[0] for entry in reversed(worth)), initial=0))[::-1]
    most = need + costs.waste
    chosen: list[int] = []
    total, at = 0, 0
    for _ in range(MAX_STEPS):
        if need <= total <= most and chosen:
            ids = tuple(worth[index][2] for index in chosen)
            return Selection(ids, sum(worth[index][1] for index in chosen), 0)
        hopeless = total > most or total + rest[at] < need or len(chosen) >= costs.max_inputs
        if not hopeless and at < len(worth):
            chosen.append(at)
            total += worth[at][0]
            at += 1
            continue
        if not chosen:
            return None
        # go on without the last coin, and without those worth the same
        left_out = chosen.pop()
        total -= worth[left_out][0]
        at = left_out + 1
        while at < len(worth) and worth[at][0] == worth[left_out][0]:
            at += 1
    return None


def worth_spending(coins: Sequence[Candidate], costs: SelectionCosts) -> list[Candidate]:
    """Return the coins that are worth more than what spending them costs."""
    return [coin for coin in coins if coin[1] > costs.per_input]


def why_nothing(has: Balance) -> str:
    """Return why none of an account's coins can be gathered, by what it has."""
    if has.confirmed - has.frozen:
        return "no coins are worth gathering at this fee rate"
    held = what_waits(has)
    return "there are no coins that can be spent" + (f" ({held})" if held else "")


def what_waits(has: Balance) -> str:
    """Return what an account has that cannot be spent at present, empty if there is nothing."""
    kinds = ("frozen", "immature", "leaving", "pending")
    held = [f"{shortest(value)} UNC {kind}" for kind in kinds if (value := getattr(has, kind))]
    return ", ".join(held)
