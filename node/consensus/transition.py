"""What makes an anchor valid before its state is known, and what it mints (Protocol §5)."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

import msgspec

from unchained.node.consensus.coins import (
    ParentContext,
    check_coin_alone,
    check_coin_in_context,
    check_time_after_parent,
    is_anchor_grade,
)
from unchained.node.consensus.errors import (
    AlreadyIncludedError,
    BadBodyRootError,
    BadHeightError,
    BadHistoryRootError,
    BadOrderError,
    BodyMissingError,
    FreshWrongParentError,
    NotAnchorError,
    TooManyCoinsError,
    UncleBadAncestryError,
    UncleHighHashError,
    UncleOutOfWindowError,
)
from unchained.node.consensus.params import Network
from unchained.node.crypto.merkle import merkle_root
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.hashing import BODY
from unchained.node.primitives.types import CoinId, Lock

LATE_SHARES: Final = 16
"""A late coin loses one sixteenth of the subsidy for each anchor that it is late."""

STRAY_DIVISOR: Final = 4
"""A stray coin mints this part of the subsidy."""


class Kind(enum.IntEnum):
    """How an anchor's chain came to hold a coin (Protocol §1)."""

    ANCHOR = 1
    FRESH = 2
    LATE = 3
    STRAY = 4


class BranchView(Protocol):
    """The chain that ends in the parent of the anchor under judgement ("this chain", §5)."""

    def anchor_at(self, height: int) -> ParentContext | None:
        """Return this chain's anchor at a height, or None above its end or below genesis."""

    def target_at(self, height: int) -> int | None:
        """Return the target in the header of this chain's anchor at a height: t(h) of §5."""

    def included(self, coin_id: CoinId, since: int = 0) -> Coin | None:
        """Return the coin if it is an anchor of this chain or was listed by one.

        `since` is a height below which no anchor can have listed it: a coin's own height.
        """

    def history_root(self) -> bytes:
        """Return the history root after the last anchor of this chain."""


class Mint(msgspec.Struct, frozen=True, gc=False):
    """What an anchor mints for one coin. `value` in grains, fees apart."""

    coin: Coin
    kind: Kind
    value: int

    @property
    def lock(self) -> Lock:
        """The lock that the coin's header names."""
        return self.coin.header.lock


def body_root(body: Body) -> bytes:
    """Return what the header of an anchor with this body commits to (Protocol §5.1)."""
    return BODY(
        merkle_root(body.fresh)
        + merkle_root(body.uncles)
        + merkle_root(body.transfers)
        + body.state_root
        + body.history_root
    )


def check_anchor_grade(anchor: Coin, network: Network) -> None:
    """Check that the coin is of anchor grade. Raises `NotAnchorError`."""
    # Protocol §5.2: NOT_ANCHOR
    if not is_anchor_grade(anchor, network):
        raise NotAnchorError(
            expected=f"an id of at most {anchor.header.target // network.coins_per_epoch:064x}",
            actual=anchor.id.hex(),
        )


def check_body_root(anchor: Coin, body: Body) -> None:
    """Check that the body is the one that the header commits to. Raises `BadBodyRootError`."""
    # Protocol §5.2: BAD_BODY_ROOT
    root = body_root(body)
    if root != anchor.header.body_root:
        raise BadBodyRootError(expected=anchor.header.body_root.hex(), actual=root.hex())


def check_body(
    anchor: Coin,
    body: Body,
    coin_of: Callable[[CoinId], Coin | None],
    branch: BranchView,
    network: Network,
) -> list[Mint]:
    """Judge a body whose root is right, all but the mixes of the coins that it lists.

    `coin_of` finds a listed coin. Returns what the anchor mints, its own coin first, then the
    body's in body order. Raises `BodyMissingError` when a listed coin has not been seen, else
    the `AnchorError` or `CoinError` that makes the anchor invalid for good.
    """
    # Protocol §5.2: TOO_MANY_COINS
    for listed in (body.fresh, body.uncles):
        if len(listed) > network.max_listed:
            raise TooManyCoinsError(expected=f"at most {network.max_listed}", actual=len(listed))
    # Protocol §5.2: BAD_ORDER
    for listed in (body.fresh, body.uncles):
        if any(left >= right for left, right in pairwise(listed)):
            raise BadOrderError(expected="coin ids strictly ascending")
    # Protocol §5.2: BAD_HISTORY_ROOT
    if body.history_root != branch.history_root():
        raise BadHistoryRootError(
            expected=branch.history_root().hex(), actual=body.history_root.hex()
        )
    fresh = list(_resolve(body.fresh, coin_of))
    uncles = list(_resolve(body.uncles, coin_of))
    parent = branch.anchor_at(anchor.height - 1)
    assert parent is not None and parent.id == anchor.parent, "the view's duty"  # noqa: PT018
    mints = [Mint(anchor, Kind.ANCHOR, network.subsidy)]
    for coin in fresh:
        _check_not_included(coin, branch)
        # Protocol §5.2: FRESH_WRONG_PARENT
        if coin.parent != anchor.parent:
            raise FreshWrongParentError(expected=anchor.parent.hex(), actual=coin.parent.hex())
        check_coin_alone(coin, network)
        check_coin_in_context(coin, parent, network, tip_height=None, now_ms=None)
        mints.append(Mint(coin, Kind.FRESH, network.subsidy))
    listed_uncles = {coin.id: coin for coin in uncles}
    mints.extend(
        judge_uncle(coin, anchor.height, anchor.header.target, listed_uncles, branch, network)
        for coin in uncles
    )
    return mints


def mints_of(
    anchor: Coin,
    body: Body,
    coin_of: Callable[[CoinId], Coin | None],
    branch: BranchView,
    network: Network,
) -> list[Mint]:
    """Return what `check_body` returned for a body that has passed it."""
    mints = [Mint(anchor, Kind.ANCHOR, network.subsidy)]
    mints += [Mint(coin, Kind.FRESH, network.subsidy) for coin in _resolve(body.fresh, coin_of)]
    for coin in _resolve(body.uncles, coin_of):
        if _is_late(coin, branch):
            value = late_value(anchor.height - coin.height, network)
            mints.append(Mint(coin, Kind.LATE, value))
        else:
            mints.append(Mint(coin, Kind.STRAY, stray_value(network)))
    return mints


def judge_uncle(
    coin: Coin,
    anchor_height: int,
    anchor_target: int,
    listed_uncles: Mapping[CoinId, Coin],
    branch: BranchView,
    network: Network,
) -> Mint:
    """Judge one uncle of an anchor of this height and target, all but its mix.

    `listed_uncles` are the body's. Returns what it mints. Raises an `AnchorError` or `CoinError`.
    """
    _check_not_included(coin, branch)
    age = anchor_height - coin.height  # j of Protocol §5.2
    # Protocol §5.2: late
    bound_to = branch.anchor_at(coin.height - 1)
    if bound_to is not None and bound_to.id == coin.parent:
        _check_window(age, 1, network)
        check_coin_alone(coin, network)
        check_coin_in_context(coin, bound_to, network, tip_height=None, now_ms=None)
        return Mint(coin, Kind.LATE, late_value(age, network))

    def target_at(height: int) -> int | None:
        return anchor_target if height == anchor_height else branch.target_at(height)

    # Protocol §5.2: stray
    parent = listed_uncles.get(coin.parent) or branch.included(coin.parent)
    if parent is None or not _is_losing_anchor(parent, target_at(parent.height), branch, network):
        raise UncleBadAncestryError(
            expected="a parent that is an anchor of this chain or a losing anchor that it lists",
            actual=coin.parent.hex(),
        )
    if coin.height != parent.height + 1:
        raise BadHeightError(expected=parent.height + 1, actual=coin.height)
    _check_window(age, 0, network)
    check_time_after_parent(coin, parent.header.time)
    # Protocol §5.2: UNCLE_HIGH_HASH
    target = target_at(coin.height)
    if target is None or int.from_bytes(coin.id, "big") > target:
        raise UncleHighHashError(expected=f"at most {target or 0:064x}", actual=coin.id.hex())
    check_coin_alone(coin, network)
    return Mint(coin, Kind.STRAY, stray_value(network))


def _is_losing_anchor(
    parent: Coin, target: int | None, branch: BranchView, network: Network
) -> bool:
    on_chain = branch.anchor_at(parent.height)
    if on_chain is not None and on_chain.id == parent.id:
        return False
    # Protocol §5.2: of anchor grade by this chain, whose target at that height this is
    return target is not None and int.from_bytes(parent.id, "big") <= network.grade_target(target)


def _is_late(coin: Coin, branch: BranchView) -> bool:
    bound_to = branch.anchor_at(coin.height - 1)
    return bound_to is not None and bound_to.id == coin.parent


def _resolve(ids: Sequence[bytes], coin_of: Callable[[CoinId], Coin | None]) -> Iterator[Coin]:
    for coin_id in ids:
        coin = coin_of(CoinId(coin_id))
        # Protocol §5.2: BODY_MISSING
        if coin is None:
            raise BodyMissingError(expected=f"coin {coin_id.hex()}", actual="not seen yet")
        yield coin


def _check_not_included(coin: Coin, branch: BranchView) -> None:
    # Protocol §5.2: ALREADY_INCLUDED
    if branch.included(coin.id, coin.height) is not None:
        raise AlreadyIncludedError(
            expected="a coin that is new to this chain", actual=coin.id.hex()
        )


def _check_window(age: int, youngest: int, network: Network) -> None:
    # Protocol §5.2: UNCLE_OUT_OF_WINDOW
    if not youngest <= age <= network.window:
        raise UncleOutOfWindowError(
            expected=f"{youngest} to {network.window} anchors after its height", actual=age
        )


def late_value(age: int, network: Network) -> int:
    """Return the grains that a coin `age` anchors late mints (Protocol §5.4)."""
    return network.subsidy * (LATE_SHARES - age) // LATE_SHARES


def stray_value(network: Network) -> int:
    """Return the grains that a stray coin mints (Protocol §5.4)."""
    return network.subsidy // STRAY_DIVISOR
