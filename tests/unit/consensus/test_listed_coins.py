"""What a body lists, by the headers of its chain alone: nothing is refused that could be valid."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.framework.forge import Forge, Forged
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.listed_coins import check_listed
from unchained.node.consensus.params import REG
from unchained.node.primitives.coin import Coin

LOW = msgspec.structs.replace(REG, max_target=2**255)
"""A network whose greatest target is not the one of its anchors."""


def check(anchor: Forged, targets: dict[int, int] | None = None) -> str:
    """Return the name of the rule that an anchor breaks."""
    if targets is None:
        targets = {step.height: step.coin.header.target for step in anchor.chain()}
    try:
        check_listed(anchor.coin, anchor.body, anchor.coins, targets, LOW)
    except ProtocolError as error:
        return error.name
    return ""


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge(LOW)


@pytest.fixture(scope="module")
def chain(forge: Forge) -> list[Forged]:
    chain = [forge.genesis]
    for _ in range(LOW.window + 3):
        chain.append(forge.anchor(chain[-1]))
    return chain


def test_what_may_be_listed_passes(forge: Forge, chain: list[Forged]) -> None:
    tip = chain[-1]
    fresh = [forge.coin(tip) for _ in range(3)]
    late = [forge.coin(chain[-1 - age]) for age in (1, LOW.window)]
    lost = forge.coin(chain[-3], grade=True)
    stray = forge.coin(forge.adopt(chain[-3], lost, forge.body(chain[-3])))
    anchor = forge.anchor(tip, fresh, [*late, lost, stray])
    assert check(anchor) == check(anchor, {}) == ""
    # What is known here need not come with the body.
    anchor.coins.clear()
    assert check(anchor) == ""


FRESH: dict[str, Callable[[Forge, Forged], Coin]] = {
    "FRESH_WRONG_PARENT": lambda forge, tip: forge.coin(tip.parent or tip),
    "BAD_VERSION": lambda forge, tip: forge.coin(tip, version=2),
    "WRONG_CHAIN": lambda forge, tip: forge.coin(tip, chain_id=1),
    "BAD_HEIGHT": lambda forge, tip: forge.coin(tip, height=1),
    "BAD_N_TOTAL": lambda forge, tip: forge.coin(tip, n_total=tip.n_total + 1),
    "BAD_TARGET": lambda forge, tip: forge.coin(tip, target=2**256 - 1),
    "HIGH_HASH": lambda forge, tip: forge.mine(
        forge.header(tip, target=1), grade=None, most=2**256 - 1
    ),
    "LISTED_TOO_NEW": lambda forge, tip: forge.coin(tip, time=1 << 60),
}


@pytest.mark.parametrize("rule", FRESH)
def test_a_fresh_coin_has_to_be_in_the_anchors_own_place(
    rule: str, forge: Forge, chain: list[Forged]
) -> None:
    broken = FRESH[rule](forge, chain[-1])
    anchor = forge.anchor(chain[-1], [forge.coin(chain[-1]), broken])
    assert check(anchor) == check(anchor, {}) == rule


UNCLES: dict[str, Callable[[Forge, list[Forged]], Coin]] = {
    "UNCLE_OUT_OF_WINDOW": lambda forge, chain: forge.coin(chain[-2 - LOW.window]),
    "BAD_VERSION": lambda forge, chain: forge.coin(chain[-2], version=2),
    "LISTED_TOO_NEW": lambda forge, chain: forge.coin(chain[-2], time=1 << 60),
    "UNCLE_HIGH_HASH": lambda forge, chain: _above(forge, chain[-2], LOW.target0),
}


def _above(forge: Forge, parent: Forged, target: int) -> Coin:
    """Return a coin of an easy target whose id is above another."""
    while True:
        coin = forge.coin(parent, grade=None, target=LOW.max_target)
        if int.from_bytes(coin.id, "big") > target:
            return coin


@pytest.mark.parametrize("rule", UNCLES)
def test_an_uncle_has_to_have_the_work_of_its_height(
    rule: str, forge: Forge, chain: list[Forged]
) -> None:
    anchor = forge.anchor(chain[-1], [], [forge.coin(chain[-2]), UNCLES[rule](forge, chain)])
    assert check(anchor) == rule
    # Of a height that is not known, the greatest target stands for its own.
    assert check(anchor, {}) == ("" if rule == "UNCLE_HIGH_HASH" else rule)
