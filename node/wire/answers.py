"""Checks of an answer against what was asked: ids hash, number, order, commitments.

Each returns what the answer gives, or raises `MismatchedAnswerError`: the peer that sent it lied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import COIN_SIZE, Coin
from unchained.node.primitives.hashing import TRANSFER_FULL
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.wire.errors import MismatchedAnswerError
from unchained.node.wire.messages import (
    OWN_TIP,
    Blobs,
    Bodies,
    Headers,
    HeadersRequest,
    VotesPage,
    VotesRequest,
)


def read_headers(request: HeadersRequest, answer: Headers) -> list[tuple[Coin, AnchorHeader]]:
    """Return the anchors of an answer, parsed: a chain above the first of the locator's ids that is
    on it.

    Checks linkage, heights and that each header's digests are those that its coin commits to.
    """
    anchors = [(Coin.from_bytes(header.coin), header) for header in answer]
    if not anchors:
        return []
    if anchors[0][0].parent not in request.locator:
        raise MismatchedAnswerError(
            "headers", "a child of an id of the locator", f"one of {anchors[0][0].parent.hex()}"
        )
    for (below, _), (above, _) in pairwise(anchors):
        if above.parent != below.id or above.height != below.height + 1:
            raise MismatchedAnswerError("headers", f"a child of {below.id.hex()}", above.id.hex())
    for coin, header in anchors:
        if header.body_root() != coin.header.body_root:
            raise MismatchedAnswerError(
                "headers", f"digests of {coin.header.body_root.hex()}", "those of another body"
            )
    if any(coin.id in request.locator for coin, _ in anchors):
        # It would have us read the same chain again and again, from genesis on.
        raise MismatchedAnswerError(
            "headers", "only what is above the locator's ids", "one of them"
        )
    if request.tip != OWN_TIP and any(coin.id == request.tip for coin, _ in anchors[:-1]):
        raise MismatchedAnswerError("headers", f"nothing above {request.tip.hex()}", "more")
    return anchors


def read_bodies(asked: Sequence[AnchorHeader], answer: Bodies) -> list[Body | None]:
    """Return the bodies of the first anchors asked for, None where the peer has none."""
    if not 0 < len(answer) <= len(asked):
        raise MismatchedAnswerError("bodies", f"1 to {len(asked)}", str(len(answer)))
    bodies: list[Body | None] = []
    for header, found in zip(asked, answer, strict=False):
        if found and not header.matches(found[0]):
            raise MismatchedAnswerError("bodies", "the body that the header commits to", "another")
        bodies.append(found[0] if found else None)
    return bodies


def read_coins(asked: Sequence[CoinId], answer: Blobs) -> dict[CoinId, Coin]:
    """Return the coins that the peer has of those asked for."""
    if len(answer) != len(asked):
        raise MismatchedAnswerError("coins", f"{len(asked)} coins", str(len(answer)))
    coins = {}
    for coin_id, raw in zip(asked, answer, strict=True):
        if not raw:
            continue
        if len(raw) != COIN_SIZE:
            raise MismatchedAnswerError("coins", f"{COIN_SIZE} bytes", f"{len(raw)} bytes")
        coin = Coin.from_bytes(raw)
        if coin.id != coin_id:
            raise MismatchedAnswerError("coins", coin_id.hex(), coin.id.hex())
        coins[coin_id] = coin
    return coins


def read_transfers(asked: Sequence[Wid], answer: Blobs) -> list[bytes | None]:
    """Return the encodings of the first transfers asked for, None where the peer has none."""
    if not 0 < len(answer) <= len(asked):
        raise MismatchedAnswerError("transfers", f"1 to {len(asked)}", str(len(answer)))
    found: list[bytes | None] = []
    for wid, raw in zip(asked, answer, strict=False):
        if raw and TRANSFER_FULL(raw) != wid:
            raise MismatchedAnswerError("transfers", wid.hex(), TRANSFER_FULL(raw).hex())
        found.append(raw or None)
    return found


class VotesRead(msgspec.Struct, frozen=True, gc=False):
    """The coins of a page, the ids of those that count as anchors for its giver, and the
    request for the next page, None after the last."""

    coins: list[Coin]
    counting: list[CoinId]
    rest: VotesRequest | None


def read_votes(request: VotesRequest, page: VotesPage) -> VotesRead:
    """Return what a page gives: coins bound to the anchors asked for, in order."""
    coins = [Coin.from_bytes(raw) for raw in page.coins]
    place = {anchor: number for number, anchor in enumerate(request.anchors)}
    last = (0, request.after)
    for coin in coins:
        here = (place.get(coin.parent, -1), coin.id)
        if here <= last:
            raise MismatchedAnswerError(
                "votes", "coins bound to the anchors, in their order", coin.id.hex()
            )
        last = here
    if any(left >= right for left, right in pairwise(page.counting)) or (
        page.counting and page.counting[-1] >= len(coins)
    ):
        raise MismatchedAnswerError("votes", "places of coins, ascending", "others")
    counting = [coins[at].id for at in page.counting]
    if not page.more:
        return VotesRead(coins, counting, None)
    if not coins:
        raise MismatchedAnswerError("votes", "coins on a page that is not the last", "none")
    return VotesRead(coins, counting, VotesRequest(request.anchors[last[0] :], last[1]))
