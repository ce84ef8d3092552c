"""What makes a coin valid: the checks of Protocol §3.3, in its order."""

from __future__ import annotations

from typing import Final, Protocol

from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.errors import (
    BadHeightError,
    BadLengthError,
    BadMixError,
    BadNTotalError,
    BadTargetError,
    BadVersionError,
    HighHashError,
    ParentInvalidError,
    ParentNotAnchorError,
    StaleParentError,
    TimeNotAfterParentError,
    TimeTooNewError,
    UnknownParentError,
    WrongChainError,
)
from unchained.node.consensus.params import Network
from unchained.node.crypto.pow import ProofOfWork, compute_mix
from unchained.node.primitives.coin import COIN_SIZE, HEADER_SIZE, Coin
from unchained.node.primitives.types import CoinId

COIN_VERSION: Final = 1
"""The only version of coins."""


class ParentView(Protocol):
    """What a node knows of the coins that others are bound to."""

    def coin(self, coin_id: CoinId) -> Coin | None:
        """Return a known coin."""

    def context_of(self, anchor_id: CoinId) -> AnchorContext | None:
        """Return the context of an anchor that counts and can still be voted for."""

    def is_invalid(self, anchor_id: CoinId) -> bool:
        """Return whether a coin of anchor grade, or an ancestor of it, broke a rule of anchors."""

    def is_settled(self, anchor: Coin) -> bool:
        """Return whether a coin is an anchor of the main chain, too deep to be voted for."""


def parse_coin(raw: bytes) -> Coin:
    """Return the coin of bytes that came by themselves. Raises `BadLengthError`."""
    # Protocol §3.3: BAD_LENGTH: "of a coin that comes by itself"
    if len(raw) != COIN_SIZE:
        raise BadLengthError(expected=f"{COIN_SIZE} bytes", actual=f"{len(raw)} bytes")
    return Coin.from_bytes(raw)


def check_coin_alone(coin: Coin, network: Network) -> None:
    """Check what needs nothing but the coin. Raises a `CoinError`."""
    header = coin.header
    # Protocol §3.1: BAD_VERSION: "`version` is 1."
    if header.version != COIN_VERSION:
        raise BadVersionError(expected=COIN_VERSION, actual=header.version)
    # Protocol §3.3: WRONG_CHAIN: "`BAD_VERSION`, `WRONG_CHAIN`, `HIGH_HASH`"
    if header.chain_id != network.chain_id:
        raise WrongChainError(expected=f"{network.chain_id:#x}", actual=f"{header.chain_id:#x}")
    # Protocol §3.3: HIGH_HASH: "id above the header's own target"
    if int.from_bytes(coin.id, "big") > header.target:
        raise HighHashError(expected=f"at most {header.target:064x}", actual=coin.id.hex())


def check_parent(coin: Coin, known: ParentView, network: Network) -> AnchorContext:
    """Return the anchor that a coin is bound to, as its children see it.

    Raises `UnknownParentError` for "not yet", else the `CoinError` that the parent makes it break.
    """
    # Protocol §3.3: UNKNOWN_PARENT: "asked of the sender only"
    parent = known.coin(coin.parent)
    if parent is None:
        raise UnknownParentError(expected="a known anchor", actual=coin.parent.hex())
    # Protocol §3.3: PARENT_NOT_ANCHOR: "the parent is not of anchor grade"
    # Protocol §10: "it counts as of anchor grade and its body as valid"
    if parent.height > 0 and not is_anchor_grade(parent, network):
        raise ParentNotAnchorError(expected="an anchor", actual=coin.parent.hex())
    # Protocol §3.3: PARENT_INVALID: "`PARENT_INVALID`"
    if known.is_invalid(parent.id):
        raise ParentInvalidError(expected="a valid anchor", actual=coin.parent.hex())
    context = known.context_of(parent.id)
    if context is not None:
        return context
    if known.is_settled(parent):
        # Protocol §3.3: BAD_HEIGHT: "`BAD_HEIGHT`; `STALE_PARENT`"
        if coin.height != parent.height + 1:
            raise BadHeightError(expected=parent.height + 1, actual=coin.height)
        # Protocol §3.3: STALE_PARENT: "the parent is more than MAX_REORG below the tip"
        raise StaleParentError(
            expected="a parent that can still be voted for", actual=parent.height
        )
    # Protocol §3.3: UNKNOWN_PARENT: "also when the parent's body is missing"
    raise UnknownParentError(expected="an anchor whose body is known", actual=coin.parent.hex())


def check_coin_in_context(
    coin: Coin,
    parent: AnchorContext,
    network: Network,
    *,
    tip_height: int | None,
    now_ms: int | None,
) -> None:
    """Check a coin against the anchor that it is bound to; its mix is checked separately.

    `tip_height` and `now_ms` are those of a node that checks a candidate or an anchor. A coin
    that a body lists is checked with None for both: its age and the clock do not matter.
    Raises a `CoinError`.
    """
    header = coin.header
    check_height(coin, parent.height + 1)
    # Protocol §3.3: STALE_PARENT: "the parent is more than MAX_REORG below the tip"
    if tip_height is not None and tip_height - parent.height > network.max_reorg:
        raise StaleParentError(
            expected=f"a parent at height {tip_height - network.max_reorg} or above",
            actual=parent.height,
        )
    check_claims(coin, parent.child_n_total, parent.child_target)
    check_time_after_parent(coin, parent.time)
    # Protocol §3.3: TIME_TOO_NEW: "more than FUTURE_LIMIT ahead of the local clock"
    if now_ms is not None and is_too_new(coin, now_ms, network):
        raise TimeTooNewError(
            expected=f"at most {now_ms + network.future_limit_ms} ms", actual=f"{header.time} ms"
        )


def check_height(coin: Coin, height: int) -> None:
    """Check the height that a coin claims. Raises `BadHeightError`."""
    # Protocol §3.1: BAD_HEIGHT: "`height` is the parent's height + 1."
    if coin.height != height:
        raise BadHeightError(expected=height, actual=coin.height)


def check_claims(coin: Coin, n_total: int, target: int) -> None:
    """Check what a coin claims to follow from the chain through its parent. Raises
    `BadNTotalError`, `BadTargetError`."""
    header = coin.header
    # Protocol §3.1: BAD_N_TOTAL: "the number of coins counted on the chain through the parent (§6)"
    if header.n_total != n_total:
        raise BadNTotalError(expected=n_total, actual=header.n_total)
    # Protocol §3.3: BAD_TARGET: "`BAD_TARGET` (§7)"
    if header.target != target:
        raise BadTargetError(expected=f"{target:064x}", actual=f"{header.target:064x}")


def is_too_new(coin: Coin, now_ms: int, network: Network, *, limits: int = 1) -> bool:
    """Return whether a coin's time is more than so many FUTURE_LIMIT ahead of a clock (ms)."""
    return coin.header.time > now_ms + limits * network.future_limit_ms


def check_time_after_parent(coin: Coin, parent_time: int) -> None:
    """Check that the coin's time (ms) exceeds its parent's. Raises `TimeNotAfterParentError`."""
    # Protocol §3.3: TIME_NOT_AFTER_PARENT: "time must exceed the parent's"
    if coin.header.time <= parent_time:
        raise TimeNotAfterParentError(
            expected=f"after {parent_time} ms", actual=f"{coin.header.time} ms"
        )


def check_mix(coin: Coin, network: Network, backend: ProofOfWork) -> None:
    """Recompute the coin's Argon2id: by far the most expensive check. Raises `BadMixError`."""
    # Protocol §3.3: BAD_MIX: "last, `BAD_MIX` (recompute Argon2id"
    mix = compute_mix(backend, coin.raw[:HEADER_SIZE], network.mem_kib)
    if mix != coin.mix:
        raise BadMixError(expected=mix.hex(), actual=coin.mix.hex())


def is_anchor_grade(coin: Coin, network: Network) -> bool:
    """Return whether the id is of anchor grade by the coin's own target."""
    # Protocol §3.2: "anchor grade iff id <= target // K"
    return int.from_bytes(coin.id, "big") <= coin.header.target // network.coins_per_epoch
