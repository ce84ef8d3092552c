"""What coins mint (§5.4), and the numbers of their kinds, which are on disk."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.forge import Forge
from unchained.node.consensus.mints import (
    CoinKind,
    Mint,
    anchor_mint,
    fresh_mint,
    late_mint,
    late_value,
    pool_share,
    stray_mint,
    stray_value,
)
from unchained.node.consensus.params import REG


def test_the_numbers_of_the_kinds_are_on_disk() -> None:
    """Another number would give another meaning to every store there is."""
    assert {kind.name: kind.value for kind in CoinKind} == {
        "ANCHOR": 1,
        "FRESH": 2,
        "LATE": 3,
        "STRAY": 4,
        "OUTPUT": 5,
    }


@pytest.mark.parametrize(
    ("age", "sixteenths"), [(1, 15), (2, 14), (15, 1), (16, 1), (17, 1), (100, 1)]
)
def test_a_late_coin_mints_a_sixteenth_less_for_each_anchor(age: int, sixteenths: int) -> None:
    assert late_value(age, REG) == 10**8 * sixteenths // 16
    odd = msgspec.structs.replace(REG, subsidy=1_001)
    assert late_value(age, odd) == 1_001 * sixteenths // 16


def test_quarters_are_rounded_down() -> None:
    assert stray_value(REG) == 25_000_000
    assert stray_value(msgspec.structs.replace(REG, subsidy=1_003)) == 250
    assert [pool_share(pool) for pool in (0, 3, 4, 7, 8, 10**18 + 3)] == [
        0,
        0,
        1,
        1,
        2,
        25 * 10**16,
    ]


def test_each_kind_of_coin() -> None:
    forge = Forge()
    coin = forge.coin(forge.genesis, key=3)
    assert anchor_mint(coin, REG) == Mint(coin, CoinKind.ANCHOR, 10**8)
    assert fresh_mint(coin, REG) == Mint(coin, CoinKind.FRESH, 10**8)
    assert late_mint(coin, 4, REG) == Mint(coin, CoinKind.LATE, 75_000_000)
    assert stray_mint(coin, REG) == Mint(coin, CoinKind.STRAY, 25_000_000)
    assert anchor_mint(coin, REG).lock == coin.header.lock
