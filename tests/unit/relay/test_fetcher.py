"""What of a body's transfers is asked for: no more than shows that it is too large (§5.2)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from unchained.node.chain.answers import Lacking
from unchained.node.consensus.params import REG
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED, wid_of
from unchained.node.primitives.types import ZERO32, Lock, Wid
from unchained.node.relay.fetcher import Fetcher, FetchError, _NeededTransfers
from unchained.node.relay.serve_chain import ANSWER_BYTES
from unchained.node.transport.contract import PeerId
from unchained.node.wire.messages import Exchange

PEER = PeerId("peer")
SIZE = MAX_TRANSFER_ENCODED
A_FULL_BODY = REG.max_body_size // SIZE
RAWS = [number.to_bytes(SIZE, "big") for number in range(3 * A_FULL_BODY)]
BY_WID = {wid_of(raw): raw for raw in RAWS}


class FakePeer:
    """A peer that has a body and its transfers, and a chain that lacks them; counts bytes."""

    def __init__(self, body: Body, here: int = 0) -> None:
        self.body = body
        self.here = {wid: len(BY_WID[wid]) for wid in list(BY_WID)[:here]}
        self.asked: list[str] = []
        self.sent = 0
        self.penalties: list[Penalty] = []

    async def lacking(self, bodies: list[Body]) -> Lacking:
        wids = [Wid(wid) for body in bodies for wid in body.transfers if wid not in self.here]
        return Lacking([], wids, dict(self.here))

    async def ask(self, exchange: Exchange[Any], peer: PeerId, request: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(exchange.name)
        if exchange.name == "bodies":
            return ((self.body,),)
        answer: list[bytes] = []
        for wid in request:
            if answer and sum(map(len, answer)) + SIZE > ANSWER_BYTES:
                break
            answer.append(BY_WID[wid])
        self.sent += sum(map(len, answer))
        return tuple(answer)

    def penalize(self, peer: PeerId, penalty: Penalty, why: str, *, ms: float = 0.0) -> None:
        self.penalties.append(penalty)


def listing(*wids: bytes) -> Body:
    return Body((), (), wids, ZERO32, ZERO32)


def anchor_of(body: Body) -> tuple[Coin, AnchorHeader]:
    lock = Lock(ZERO32)
    header = CoinHeader(REG.chain_id, 1, ZERO32, 1, 1, 0, REG.target0, lock, ZERO32, 0)
    coin = Coin.assemble(header, ZERO32)
    return coin, AnchorHeader.of(coin, body)


def fetcher_of(peer: FakePeer) -> Fetcher:
    parts: Any = (REG, peer, peer, peer)
    return Fetcher(*parts)


async def test_a_full_body_is_fetched_whole() -> None:
    body = listing(*list(BY_WID)[:A_FULL_BODY])
    peer = FakePeer(body)
    (package,) = await fetcher_of(peer).packages(PEER, [anchor_of(body)])
    assert set(package.transfers) == set(body.transfers)
    assert peer.sent == REG.max_body_size


@pytest.mark.parametrize("here", [0, A_FULL_BODY // 2, A_FULL_BODY])
async def test_of_a_body_that_is_too_large_no_more_is_fetched_than_shows_it(here: int) -> None:
    body = listing(*BY_WID)
    peer = FakePeer(body, here)
    (package,) = await fetcher_of(peer).packages(PEER, [anchor_of(body)])
    assert len(package.transfers) < len(BY_WID)
    there = here * SIZE + peer.sent
    assert REG.max_body_size < there <= REG.max_body_size + ANSWER_BYTES
    # Who gave it may not have known: what it breaks is found when it is judged.
    assert peer.penalties == []


class SlowChain(FakePeer):
    """The chain is busy for a minute, whatever it is asked; the peer takes its time as well."""

    async def lacking(self, bodies: list[Body]) -> Lacking:
        await trio.sleep(60)
        return await super().lacking(bodies)

    async def ask(self, exchange: Exchange[Any], peer: PeerId, request: Any) -> Any:
        await trio.sleep(4)
        return await super().ask(exchange, peer, request)


@pytest.mark.parametrize("within_s", [6, 10])
async def test_a_peer_does_not_pay_for_the_time_that_we_take(within_s: float) -> None:
    body = listing(next(iter(BY_WID)))
    peer = SlowChain(body)
    with trio.move_on_after(within_s) as patience:
        await fetcher_of(peer).packages(PEER, [anchor_of(body)], patience=patience)
    assert trio.current_time() == 60 + min(within_s, 8)
    assert patience.cancelled_caught == (within_s < 8)


async def test_nothing_is_fetched_where_what_is_here_is_too_much() -> None:
    body = listing(*BY_WID)
    peer = FakePeer(body, A_FULL_BODY + 1)
    await fetcher_of(peer).packages(PEER, [anchor_of(body)])
    assert peer.asked == ["bodies"]


async def test_a_transfer_that_is_listed_again_counts_again() -> None:
    first = next(iter(BY_WID))
    body = listing(*(first,) * (A_FULL_BODY + 1), *BY_WID)
    peer = FakePeer(body, 1)
    await fetcher_of(peer).packages(PEER, [anchor_of(body)])
    assert peer.asked == ["bodies"]


async def test_of_too_many_transfers_not_even_the_body_is_fetched() -> None:
    body = listing(*(bytes(32),) * (REG.max_transfers + 1))
    peer = FakePeer(body)
    with pytest.raises(FetchError, match="more transfers"):
        await fetcher_of(peer).packages(PEER, [anchor_of(body)])
    assert peer.asked == []


# The transfers that are asked for

SMALL = {wid_of(raw): raw for raw in (bytes([number]) * (250 << 10) for number in range(20))}
SMALL_WIDS = list(SMALL)


def lacking(wids: list[Wid]) -> Lacking:
    return Lacking([], list(wids), {})


def test_all_of_a_body_that_may_be_as_large() -> None:
    needed = _NeededTransfers([listing(*SMALL_WIDS[:16])], lacking(SMALL_WIDS[:16]), REG)
    for wid in SMALL_WIDS[:16]:
        assert wid in needed.missing()
        needed.add({wid: SMALL[wid]})
    assert needed.missing() == []
    assert set(needed.raws) == set(SMALL_WIDS[:16])


def test_no_more_of_a_body_that_is_too_large() -> None:
    large, other = listing(*SMALL_WIDS[:18]), listing(SMALL_WIDS[18], SMALL_WIDS[19])
    needed = _NeededTransfers([large, other], lacking(SMALL_WIDS), REG)
    needed.add({wid: SMALL[wid] for wid in SMALL_WIDS[:16]})
    assert needed.missing() == SMALL_WIDS[16:]
    needed.add({SMALL_WIDS[16]: SMALL[SMALL_WIDS[16]]})
    assert needed.missing() == SMALL_WIDS[18:]


def test_a_transfer_counts_as_often_as_it_is_listed() -> None:
    often = listing(*SMALL_WIDS[:1] * 17, SMALL_WIDS[1])
    needed = _NeededTransfers([often], lacking(SMALL_WIDS[:2]), REG)
    needed.add({SMALL_WIDS[0]: SMALL[SMALL_WIDS[0]]})
    assert needed.missing() == []


def test_what_is_known_here_is_not_asked_for() -> None:
    needed = _NeededTransfers([listing(*SMALL_WIDS[:3])], lacking(SMALL_WIDS[1:2]), REG)
    assert needed.missing() == SMALL_WIDS[1:2]
    needed.add({SMALL_WIDS[1]: SMALL[SMALL_WIDS[1]]})
    assert needed.missing() == []
