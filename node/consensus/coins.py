"""What makes a coin valid: the checks of Protocol §3.3, in its order."""

from __future__ import annotations

from typing import Final

import msgspec

from unchained.node.consensus.errors import (
    BadHeightError,
    BadLengthError,
    BadMixError,
    BadNTotalError,
    BadTargetError,
    BadVersionError,
    HighHashError,
    StaleParentError,
    TimeNotAfterParentError,
    TimeTooNewError,
    WrongChainError,
)
from unchained.node.consensus.params import Network
from unchained.node.crypto.pow import ProofOfWork, compute_mix
from unchained.node.primitives.coin import COIN_SIZE, HEADER_SIZE, Coin
from unchained.node.primitives.types import CoinId

COIN_VERSION: Final = 1
"""The only version of coins."""


class ParentContext(msgspec.Struct, frozen=True, gc=False):
    """An anchor as its children see it.

    `time` in ms; `child_n_total` and `child_target` are what every coin bound to the anchor
    carries (Protocol §6, §7).
    """

    id: CoinId
    height: int
    time: int
    child_n_total: int
    child_target: int


def parse_coin(raw: bytes) -> Coin:
    """Return the coin of bytes that came by themselves. Raises `BadLengthError`."""
    # Protocol §3.3: BAD_LENGTH
    if len(raw) != COIN_SIZE:
        raise BadLengthError(expected=f"{COIN_SIZE} bytes", actual=f"{len(raw)} bytes")
    return Coin.from_bytes(raw)


def check_coin_alone(coin: Coin, network: Network) -> None:
    """Check what needs nothing but the coin. Raises a `CoinError`."""
    header = coin.header
    # Protocol §3.3: BAD_VERSION
    if header.version != COIN_VERSION:
        raise BadVersionError(expected=COIN_VERSION, actual=header.version)
    # Protocol §3.3: WRONG_CHAIN
    if header.chain_id != network.chain_id:
        raise WrongChainError(expected=f"{network.chain_id:#x}", actual=f"{header.chain_id:#x}")
    # Protocol §3.3: HIGH_HASH
    if int.from_bytes(coin.id, "big") > header.target:
        raise HighHashError(expected=f"at most {header.target:064x}", actual=coin.id.hex())


def check_coin_in_context(
    coin: Coin,
    parent: ParentContext,
    network: Network,
    *,
    tip_height: int | None,
    now_ms: int | None,
) -> None:
    """Check a coin against the anchor that it is bound to; its mix is checked separately.

    `tip_height` and `now_ms` are those of a node that judges a candidate or an anchor. A coin
    that a body lists is judged with None for both: its age and the clock do not matter.
    Raises a `CoinError`.
    """
    header = coin.header
    # Protocol §3.3: BAD_HEIGHT
    if header.height != parent.height + 1:
        raise BadHeightError(expected=parent.height + 1, actual=header.height)
    # Protocol §3.3: STALE_PARENT
    if tip_height is not None and tip_height - parent.height > network.max_reorg:
        raise StaleParentError(
            expected=f"a parent at height {tip_height - network.max_reorg} or above",
            actual=parent.height,
        )
    # Protocol §3.3: BAD_N_TOTAL
    if header.n_total != parent.child_n_total:
        raise BadNTotalError(expected=parent.child_n_total, actual=header.n_total)
    # Protocol §3.3: BAD_TARGET
    if header.target != parent.child_target:
        raise BadTargetError(expected=f"{parent.child_target:064x}", actual=f"{header.target:064x}")
    # Protocol §3.3: TIME_NOT_AFTER_PARENT
    check_time_after_parent(coin, parent.time)
    # Protocol §3.3: TIME_TOO_NEW
    if now_ms is not None and header.time > now_ms + network.future_limit_ms:
        raise TimeTooNewError(
            expected=f"at most {now_ms + network.future_limit_ms} ms", actual=f"{header.time} ms"
        )


def check_time_after_parent(coin: Coin, parent_time: int) -> None:
    """Check that the coin's time (ms) exceeds its parent's. Raises `TimeNotAfterParentError`."""
    if coin.header.time <= parent_time:
        raise TimeNotAfterParentError(
            expected=f"after {parent_time} ms", actual=f"{coin.header.time} ms"
        )


def check_mix(coin: Coin, network: Network, backend: ProofOfWork) -> None:
    """Recompute the coin's Argon2id: the dearest check, always last. Raises `BadMixError`."""
    # Protocol §3.3: BAD_MIX
    mix = compute_mix(backend, coin.raw[:HEADER_SIZE], network.mem_kib)
    if mix != coin.mix:
        raise BadMixError(expected=mix.hex(), actual=coin.mix.hex())


def is_anchor_grade(coin: Coin, network: Network) -> bool:
    """Tell whether the id is at most target / K by the coin's own target (Protocol §3.2)."""
    return int.from_bytes(coin.id, "big") <= coin.header.target // network.coins_per_epoch
