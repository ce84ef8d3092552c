"""chain.tree: the anchors of some heights on every branch, and each coin as a vote."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.chain.answers import AnchorStanding, AnchorVotes
from unchained.node.chain.service import ChainService
from unchained.node.consensus.fork_choice import work
from unchained.node.consensus.mints import CoinKind
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.core.errors import InvalidParamsError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Hash
from unchained.node.rpc.methods.parameters import Height
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.storage import schema
from unchained.storage.kv import Reader

ANSWER_HEIGHTS_MAX: Final = 128
"""Heights of one answer."""

ANSWER_ANCHORS_MAX: Final = 512
"""Anchors of one answer, over all branches."""

ANSWER_COINS_MAX: Final = 256
"""Coins of one anchor that an answer names."""

LEAD_MAX: Final = 16
"""Heights above the tip that are looked at: a branch of more anchors may have less work."""

SHOWN: Final = 12
"""Heights up to the tip of an answer to who names none."""

VoteKind = Literal["anchor", "fresh", "late", "stray", "candidate"]

_KINDS: Final[dict[CoinKind, VoteKind]] = {
    CoinKind.ANCHOR: "anchor",
    CoinKind.FRESH: "fresh",
    CoinKind.LATE: "late",
    CoinKind.STRAY: "stray",
}


@user_text(
    """A coin as a vote for its parent. `luck` is target / id: how many times less likely the coin
    was than one that just meets its target. `kind` is that of its inclusion by the main chain,
    `candidate` before."""
)
class TreeCoin(msgspec.Struct, frozen=True):
    id: Hash
    time: int
    luck: float
    kind: VoteKind


@user_text(
    """An anchor of the tree. `votes` counts all coins bound to it; `coins` are the first of them
    to come, at most 256. `work` is what a coin of its target stands for; `score` that of Protocol
    §6, none for anchors that do not count, or are settled."""
)
class TreeAnchor(msgspec.Struct, frozen=True):
    id: Hash
    parent: Hash
    height: int
    time: int
    luck: float
    work: str
    status: AnchorStanding
    votes: int
    score: str | None
    coins: list[TreeCoin]


@user_text(
    """The anchors of some heights, lowest first. Below the last MAX_REORG heights these are of the
    main chain alone, with the coins that the next anchor lists as fresh, and the next anchor."""
)
class TreeOfAnchors(msgspec.Struct, frozen=True):
    first: int
    last: int
    tip: Hash
    height: int
    anchors: list[TreeAnchor]


class TreeRoom:
    """The method that shows the tree."""

    def __init__(self, chain: ChainService, reader: StoreReader) -> None:
        self._chain = chain
        self._reader = reader

    @method("chain.tree", Access.READ, errors=(InvalidParamsError,))
    @user_text(
        """Return the anchors of some heights on every branch, and the coins that vote for each.

        `last` left out means the tip and branches up to 16 heights above it, `first` the 12 heights
        up to the tip; at most 128 heights.
        """
    )
    async def tree(self, first: Height | None = None, last: Height | None = None) -> TreeOfAnchors:
        tip = self._chain.status.value
        end = tip.height + LEAD_MAX if last is None else last
        start = max(0, min(end, tip.height) - SHOWN + 1) if first is None else first
        if start > end:
            raise InvalidParamsError(f"the first height, {start}, lies above the last, {end}")
        if end - start >= ANSWER_HEIGHTS_MAX:
            raise InvalidParamsError(
                f"from {start} to {end} there are {end - start + 1} heights, at most "
                f"{ANSWER_HEIGHTS_MAX} are returned"
            )
        found = await self._chain.queries.anchor_votes(
            start, end, ANSWER_ANCHORS_MAX, ANSWER_COINS_MAX
        )
        ids = [coin_id for anchor in found for coin_id in anchor.bound]
        coins = await self._reader.run(lambda store: _read_coins(store, ids))
        return TreeOfAnchors(
            start,
            max((anchor.anchor.height for anchor in found), default=end),
            Hash(tip.tip),
            tip.height,
            [_describe(anchor, coins) for anchor in found],
        )


def luck(coin: Coin) -> float:
    """Return target / id of a coin: from 1, without an upper bound."""
    return (coin.header.target + 1) / (int.from_bytes(coin.id, "big") + 1)


def _read_coins(store: Reader, ids: list[CoinId]) -> dict[CoinId, TreeCoin]:
    raws = schema.COIN.get_many(store, ids)
    histories = schema.HISTORY.get_many(store, ids)
    found = {}
    for coin_id, raw, history in zip(ids, raws, histories, strict=True):
        # One that was known a moment ago may have been let go of.
        if raw is None:
            continue
        coin = Coin.from_bytes(raw)
        kind: VoteKind = "candidate" if history is None else _KINDS[history.kind]
        found[coin_id] = TreeCoin(Hash(coin_id), coin.header.time, round(luck(coin), 3), kind)
    return found


def _describe(votes: AnchorVotes, coins: dict[CoinId, TreeCoin]) -> TreeAnchor:
    anchor = votes.anchor
    header = anchor.header
    return TreeAnchor(
        Hash(anchor.id),
        Hash(header.parent),
        anchor.height,
        header.time,
        round(luck(anchor), 3),
        str(work(header.target)),
        votes.standing,
        votes.votes,
        None if votes.score is None else str(votes.score),
        [coins[coin_id] for coin_id in votes.bound if coin_id in coins],
    )
