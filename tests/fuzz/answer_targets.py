"""Answers against what was asked, as targets: a request and what a peer made of it, together.

input = u16 length of the request ‖ request ‖ answer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tests.framework.forge import Forge
from tests.framework.wire_document import EXCHANGES
from tests.fuzz.target import FuzzTarget
from unchained.node.consensus.context import genesis_context
from unchained.node.consensus.fork_choice import HeaderTargets, anchor_work, count_asked_for
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG
from unchained.node.consensus.transition import check_header
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.crypto.history_range import HistoryNode, HistoryPeaks
from unchained.node.primitives.codec import encode
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.wire.answers import (
    read_bodies,
    read_coins,
    read_headers,
    read_transfers,
    read_votes,
)
from unchained.node.wire.errors import AnswerError
from unchained.node.wire.messages import OWN_TIP, HeadersRequest, VotesPage, VotesRequest

_LENGTH: Final = 2


def joined(request: bytes, answer: bytes) -> bytes:
    """Return an input of a request and an answer to it."""
    return len(request).to_bytes(_LENGTH, "big") + request + answer


def _parted(raw: bytes) -> tuple[bytes, bytes]:
    end = _LENGTH + int.from_bytes(raw[:_LENGTH], "big")
    return raw[_LENGTH:end], raw[end:]


def _reading(name: str, read: Callable[[Any, Any], Any]) -> Callable[[bytes], Any]:
    """Return what decodes a request and its answer, and reads the one against the other."""
    exchange = EXCHANGES[name]
    # Bodies are asked for by ids, and compared with the headers of these.
    asked_of = EXCHANGES["headers"].decode_answer if name == "bodies" else exchange.decode_request

    def decode(raw: bytes) -> Any:
        request, answer = _parted(raw)
        return read(asked_of(request), exchange.decode_answer(answer))

    return decode


def _headers(count: int) -> tuple[list[AnchorHeader], list[Any]]:
    forge = Forge(REG)
    anchors = [forge.anchor(forge.genesis, [forge.coin(forge.genesis)])]
    while len(anchors) < count:
        anchors.append(forge.anchor(anchors[-1]))
    return [AnchorHeader.of(anchor.coin, anchor.body) for anchor in anchors], anchors


_REFUSED: Final = b"\1"


def _answers(name: str) -> Iterator[tuple[object, object]]:
    """Yield requests with answers, honest ones first, then some that lie."""
    headers, anchors = _headers(3)
    genesis = genesis_of(REG)
    coins = list(anchors[0].coins.values())
    ids = [anchor.id for anchor in anchors]
    raws = [bytes(anchor.coin.raw) for anchor in anchors]
    lie = msgspec.structs.replace(headers[1], state_root=bytes(32))
    from_genesis = HeadersRequest((genesis.id,), OWN_TIP)
    bodies = [(anchor.body,) for anchor in anchors]
    first, second = sorted((coins[0], anchors[0].coin), key=lambda coin: coin.id)
    pair = bytes(first.raw), bytes(second.raw)
    at = [first.id, second.id].index(anchors[0].id)
    votes = VotesRequest((genesis.id, ids[0]), bytes(32))
    yield from {
        "headers": (
            (from_genesis, headers),
            (from_genesis, ()),
            (HeadersRequest((genesis.id,), ids[2]), headers),
            (HeadersRequest((genesis.id,), ids[1]), headers),
            (HeadersRequest((ids[0],), OWN_TIP), headers),
            (HeadersRequest((genesis.id, ids[1]), OWN_TIP), headers),
            (from_genesis, (headers[0], headers[2])),
            (from_genesis, (headers[0], lie)),
        ),
        "bodies": (
            (headers, bodies),
            (headers, bodies[:1]),
            (headers, ()),
            (headers, (bodies[1],)),
            (headers, ((), *bodies[1:])),
        ),
        "coins": (
            (ids, raws),
            (ids, (raws[0], b"", raws[2])),
            (ids, raws[:1]),
            (ids[:1], raws[1:2]),
            (ids[:1], (b"short",)),
        ),
        "transfers": (
            (ids, (b"", b"")),
            (ids, ()),
            (ids[:1], (b"another",)),
        ),
        "votes": (
            (votes, VotesPage(pair, (at,), 0)),
            (votes, VotesPage(pair, (at,), 1)),
            (votes, VotesPage((), (), 1)),
            (votes, VotesPage((), (), 0)),
            (votes, VotesPage(pair[::-1], (), 0)),
            (votes, VotesPage(pair, (1, 0), 0)),
            (votes, VotesPage(pair[:1], (1,), 0)),
            (votes, VotesPage((*pair, raws[1]), (2,), 1)),
            (VotesRequest((genesis.id,), second.id), VotesPage(pair[:1], (), 0)),
        ),
    }[name]


def _seeds(name: str) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        exchange = EXCHANGES[name]
        for request, answer in _answers(name):
            asked = exchange.answer(request) if name == "bodies" else encode(request)
            yield joined(asked, exchange.answer(answer))
        yield joined(asked, _REFUSED)

    return seeds


# A chain of headers, as whoever syncs follows it


def _follow(raw: bytes) -> object:
    """Check a chain of headers on `reg` from genesis, and say how far its bodies are asked for."""
    anchors = read_headers(
        HeadersRequest((genesis_of(REG).id,), OWN_TIP), EXCHANGES["headers"].decode_answer(raw)
    )
    genesis = genesis_of(REG).coin
    node = HistoryNode.of_anchor(genesis.id, 0, 0, genesis.header.time)
    context = genesis_context(genesis, HistoryPeaks(1, (node.to_bytes(),)), REG)
    targets: list[HeaderTargets] = []
    for coin, header in anchors:
        context = check_header(
            coin,
            header.fresh.n,
            header.uncles.n,
            header.transfers.n,
            header.history_root,
            context,
            REG,
            None,
        )
        targets.append(HeaderTargets(coin.header.target, context.child_target))
    return _asked_for(targets)


def _asked_for(targets: Sequence[HeaderTargets]) -> list[int]:
    """Return how far bodies are asked for beside main chains of several kinds."""
    work = sum(anchor_work(one.own, REG) for one in targets)
    return [
        count_asked_for(targets, work, [target] * (len(targets) + 1), times * work, depth, REG)
        for target, times, depth in (
            (REG.target0, 1, 1),
            (REG.target0, 1, REG.window + 1),
            (REG.target0, 9, REG.window + 1),
            (REG.target0 // 4, 9, REG.window + 1),
        )
    ]


def _chains() -> Iterator[bytes]:
    exchange = EXCHANGES["headers"]
    headers, _ = _headers(3)
    yield exchange.answer(headers)
    yield exchange.answer(())
    coin = Coin.from_bytes(headers[0].coin)
    yield exchange.answer((msgspec.structs.replace(headers[0], coin=bytes(coin.raw)),))


def answer_targets() -> Iterator[FuzzTarget]:
    """Yield the targets."""
    refusals = (ProtocolError, AnswerError)
    for name, read in (
        ("headers", read_headers),
        ("bodies", read_bodies),
        ("coins", read_coins),
        ("transfers", read_transfers),
        ("votes", read_votes),
    ):
        yield FuzzTarget(f"read-{name}", _reading(name, read), refusals, _seeds(name))
    yield FuzzTarget("header-chain", _follow, refusals, _chains)
