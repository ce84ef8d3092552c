"""Uncles: coins that an anchor includes though they are not bound to its parent (Protocol §5.2)."""

from __future__ import annotations

from collections.abc import Mapping

from unchained.node.consensus.coins import (
    check_coin_alone,
    check_coin_in_context,
    check_time_after_parent,
)
from unchained.node.consensus.context import AnchorContext, BranchView
from unchained.node.consensus.errors import (
    AlreadyIncludedError,
    BadHeightError,
    ListedTooNewError,
    UncleBadAncestryError,
    UncleHighHashError,
    UncleOutOfWindowError,
)
from unchained.node.consensus.mints import Mint, late_mint, stray_mint
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


def check_uncle(
    coin: Coin,
    anchor_height: int,
    anchor_time: int,
    anchor_target: int,
    listed_uncles: Mapping[CoinId, Coin],
    branch: BranchView,
    network: Network,
) -> Mint:
    """Check one uncle of an anchor of this height, time (ms) and target by all but its mix.

    `listed_uncles` are the body's. Returns what it mints. Raises an `AnchorError` or `CoinError`.
    """
    check_not_included(coin, branch)
    check_listed_time(coin, anchor_time, network)
    age = anchor_height - coin.height  # j of Protocol §5.2
    # Protocol §5.2: "an uncle whose parent is this chain's anchor at u.height - 1"
    bound_to = bound_anchor(coin, branch)
    if bound_to is not None:
        # Protocol §5.2: "with 1 <= j <= W"
        check_window(age, 1, network)
        # Protocol §5.2: "Both pass §3.3 in full but for `STALE_PARENT` and `TIME_TOO_NEW`."
        check_coin_alone(coin, network)
        check_coin_in_context(coin, bound_to, network, tip_height=None, now_ms=None)
        return late_mint(coin, age, network)

    def target_at(height: int) -> int | None:
        # Protocol §5: "the anchor itself included"
        return anchor_target if height == anchor_height else branch.target_at(height)

    # Protocol §5.2: "whose parent p was listed by this chain or is among this body's uncles"
    parent = listed_uncles.get(coin.parent) or branch.included(coin.parent)
    # Protocol §5.2: UNCLE_BAD_ANCESTRY: "Any other uncle"
    if parent is None or not _is_losing_anchor(parent, target_at(parent.height), branch, network):
        raise UncleBadAncestryError(
            expected="a parent that is an anchor of this chain or a losing anchor that it lists",
            actual=coin.parent.hex(),
        )
    # Protocol §5.2: BAD_HEIGHT: "with u.height = p.height + 1"
    if coin.height != parent.height + 1:
        raise BadHeightError(expected=parent.height + 1, actual=coin.height)
    # Protocol §5.2: "0 <= j <= W"
    check_window(age, 0, network)
    # Protocol §5.2: TIME_NOT_AFTER_PARENT: "u.time > p.time"
    check_time_after_parent(coin, parent.header.time)
    check_uncle_hash(coin, target_at(coin.height) or 0)
    # Protocol §5.2: "Its own target is looked at for `HIGH_HASH` alone"
    check_coin_alone(coin, network)
    return stray_mint(coin, network)


def bound_anchor(coin: Coin, branch: BranchView) -> AnchorContext | None:
    """Return this chain's anchor that the coin is bound to, None if that is on no such height."""
    found = branch.anchor_at(coin.height - 1)
    return found if found is not None and found.id == coin.parent else None


def check_not_included(coin: Coin, branch: BranchView) -> None:
    """Check that a listed coin is new to this chain. Raises `AlreadyIncludedError`."""
    # Protocol §5.2: ALREADY_INCLUDED: "u is an anchor of this chain or was listed by one"
    if branch.included(coin.id, coin.height) is not None:
        raise AlreadyIncludedError(
            expected="a coin that is new to this chain", actual=coin.id.hex()
        )


def check_listed_time(coin: Coin, anchor_time: int, network: Network) -> None:
    """Check that a listed coin's time is not far above that of the anchor, ms. Raises
    `ListedTooNewError`."""
    # Protocol §5.2: LISTED_TOO_NEW: "u.time is more than FUTURE_LIMIT above the anchor's time"
    if coin.header.time > anchor_time + network.future_limit_ms:
        raise ListedTooNewError(
            expected=f"at most {anchor_time + network.future_limit_ms} ms",
            actual=f"{coin.header.time} ms",
        )


def _is_losing_anchor(
    parent: Coin, target: int | None, branch: BranchView, network: Network
) -> bool:
    # Protocol §5.2: "is no anchor of this chain"
    on_chain = branch.anchor_at(parent.height)
    if on_chain is not None and on_chain.id == parent.id:
        return False
    # Protocol §5.2: "is of anchor grade by this chain: p.id <= t(p.height) // K"
    return target is not None and int.from_bytes(parent.id, "big") <= network.grade_target(target)


def check_uncle_hash(coin: Coin, target: int) -> None:
    """Check an uncle's id against the target at its height. Raises `UncleHighHashError`."""
    # Protocol §5.2: UNCLE_HIGH_HASH: "u.id <= t(u.height)"
    if int.from_bytes(coin.id, "big") > target:
        raise UncleHighHashError(expected=f"at most {target:064x}", actual=coin.id.hex())


def check_window(age: int, youngest: int, network: Network) -> None:
    """Check how many anchors after its height an uncle is listed. Raises
    `UncleOutOfWindowError`."""
    # Protocol §5.2: UNCLE_OUT_OF_WINDOW: "if its parent would do but j would not"
    if not youngest <= age <= network.window:
        raise UncleOutOfWindowError(
            expected=f"{youngest} to {network.window} anchors after its height", actual=age
        )
