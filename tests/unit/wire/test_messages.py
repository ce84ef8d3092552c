from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unchained.node.consensus.params import REG
from unchained.node.crypto.anchor_header import AnchorHeader, ListDigest
from unchained.node.crypto.merkle import merkle_root
from unchained.node.primitives.body import Body
from unchained.node.primitives.codec import encode
from unchained.node.primitives.coin import COIN_SIZE, Coin, CoinHeader
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.hashing import BODY, TRANSFER_FULL
from unchained.node.primitives.types import ZERO32, CoinId, Lock, Wid
from unchained.node.wire import answers, limits, messages
from unchained.node.wire.errors import (
    AnswerError,
    MalformedAnswerError,
    MismatchedAnswerError,
    RefusedAnswerError,
)
from unchained.node.wire.messages import (
    Code,
    HeadersRequest,
    Status,
    VotesPage,
    VotesRequest,
)


def an_id(number: int) -> CoinId:
    return CoinId(number.to_bytes(32, "big"))


def a_body(seed: int = 1) -> Body:
    ids = tuple(an_id(seed * 100 + n) for n in range(3))
    return Body(ids, ids[:1], (), b"s" * 32, b"h" * 32)


def root(body: Body) -> bytes:
    lists = b"".join(merkle_root(ids) for ids in (body.fresh, body.uncles, body.transfers))
    return BODY(lists + body.state_root + body.history_root)


def an_anchor(parent: CoinId, height: int, body: Body) -> Coin:
    header = CoinHeader(
        REG.chain_id, 1, parent, height, 5, 0, REG.target0, Lock(ZERO32), root(body), 7
    )
    return Coin.assemble(header, b"m" * 32)


def a_chain(length: int) -> list[tuple[Coin, Body]]:
    chain: list[tuple[Coin, Body]] = []
    parent = an_id(1)
    for height in range(1, length + 1):
        body = a_body(height)
        chain.append((an_anchor(parent, height, body), body))
        parent = chain[-1][0].id
    return chain


EXCHANGES = [value for value in vars(messages).values() if isinstance(value, messages.Exchange)]


def test_every_exchange_is_in_the_table_and_no_name_twice() -> None:
    assert {exchange.limits for exchange in EXCHANGES} == set(limits.EXCHANGES)
    names = [entry.name for entry in (*limits.EXCHANGES, *limits.TOPICS)]
    assert len(set(names)) == len(names)
    assert limits.name_of(bytes.fromhex("0123456789abcdef" * 4), "coin") == (
        "/unchained/01234567/coin/1"
    )


def test_the_largest_requests_and_answers_fit_their_limits() -> None:
    chain = a_chain(1)
    coin, body = chain[0]
    most = 2**32 - 1
    digest = ListDigest(most, b"\xff" * 32)
    header = AnchorHeader(b"\xff" * COIN_SIZE, digest, digest, digest, b"\xff" * 32, b"\xff" * 32)
    ids = tuple(an_id(n) for n in range(2048))
    largest: list[tuple[Any, Any, Any]] = [
        (
            messages.STATUS_EXCHANGE,
            status := Status(*(b"\xff" * 32,) * 2, 2**64 - 1, b"\xff" * 32, 2**64 - 1, 2**64 - 1),
            status,
        ),
        (messages.HEADERS_EXCHANGE, HeadersRequest(ids[:64], ids[0]), (header,) * 512),
        (messages.COINS_EXCHANGE, ids, (coin.raw,) * 2048),
        (
            messages.VOTES_EXCHANGE,
            VotesRequest(ids[:256], ids[0]),
            VotesPage((coin.raw,) * 1024, tuple(range(1024)), 1),
        ),
        (messages.ADDRESSES_EXCHANGE, messages.AddressesRequest(2**64 - 1), (b"a" * 256,) * 256),
        (messages.STEM_EXCHANGE, messages.StemRequest(b"t" * (256 << 10)), messages.Taken()),
        (messages.BODIES_EXCHANGE, ids[:64], ((body,), ()) * 32),
        (messages.TRANSFERS_EXCHANGE, ids[:256], (b"", b"x" * 1000)),
    ]
    assert {exchange for exchange, _, _ in largest} == set(EXCHANGES)
    for exchange, request, answer in largest:
        assert len(encode(request)) <= exchange.limits.max_request, exchange.name
        assert exchange.decode_request(encode(request)) == request
        raw = exchange.answer(answer)
        assert len(raw) <= exchange.limits.max_answer + 1, exchange.name
        assert exchange.decode_answer(raw) == answer
    assert len(header.to_bytes()) <= limits.ANCHOR_GOSSIP.max_size


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange.name)
def test_refusals_and_garbage_are_distinguished(exchange: messages.Exchange[Any]) -> None:
    with pytest.raises(RefusedAnswerError, match="BUSY"):
        exchange.decode_answer(messages.refusal(Code.BUSY))
    for raw in (b"", b"\x09", bytes((Code.NOT_FOUND,)) + b"x"):
        with pytest.raises(MalformedAnswerError):
            exchange.decode_answer(raw)
    with pytest.raises(NonCanonicalError):
        exchange.decode_answer(b"\x00\xc1")
    with pytest.raises(NonCanonicalError):
        exchange.decode_request(b"\xc1")
    with pytest.raises(NonCanonicalError):
        exchange.decode_request(bytes(exchange.limits.max_request + 1))


def test_a_header_commits_to_its_body() -> None:
    coin, body = a_chain(1)[0]
    header = AnchorHeader.of(coin, body)
    assert header.body_root() == coin.header.body_root
    assert AnchorHeader.from_bytes(header.to_bytes()) == header
    assert header.matches(body)
    for change in (
        {"fresh": ()},
        {"uncles": ()},
        {"transfers": (an_id(1),)},
        {"state_root": ZERO32},
    ):
        assert not header.matches(msgspec.structs.replace(body, **change))


def headers_of(chain: list[tuple[Coin, Body]]) -> tuple[AnchorHeader, ...]:
    return tuple(AnchorHeader.of(coin, body) for coin, body in chain)


def test_headers_are_a_chain_above_the_locator() -> None:
    chain = a_chain(4)
    request = HeadersRequest((an_id(9), an_id(1)), messages.OWN_TIP)
    assert [coin for coin, _ in answers.read_headers(request, headers_of(chain))] == [
        coin for coin, _ in chain
    ]
    assert answers.read_headers(request, ()) == []
    with pytest.raises(MismatchedAnswerError, match="locator"):
        answers.read_headers(request, headers_of(chain[1:]))
    with pytest.raises(MismatchedAnswerError, match="child"):
        answers.read_headers(request, headers_of([chain[0], chain[2]]))
    other = list(headers_of(chain))
    other[1] = msgspec.structs.replace(other[1], state_root=ZERO32)
    with pytest.raises(MismatchedAnswerError, match="digests"):
        answers.read_headers(request, tuple(other))
    up_to = msgspec.structs.replace(request, tip=chain[1][0].id)
    assert len(answers.read_headers(up_to, headers_of(chain[:2]))) == 2
    with pytest.raises(MismatchedAnswerError, match="nothing above"):
        answers.read_headers(up_to, headers_of(chain))


def test_bodies_belong_to_their_headers() -> None:
    chain = a_chain(3)
    headers = headers_of(chain)
    bodies = [body for _, body in chain]
    assert answers.read_bodies(headers, ((bodies[0],), ())) == [bodies[0], None]
    with pytest.raises(MismatchedAnswerError):
        answers.read_bodies(headers, ())
    with pytest.raises(MismatchedAnswerError):
        answers.read_bodies(headers[:1], ((bodies[0],), ()))
    with pytest.raises(MismatchedAnswerError, match="commits"):
        answers.read_bodies(headers, ((bodies[1],),))


def test_coins_and_transfers_hash_to_what_was_asked() -> None:
    (one, _), (other, _) = a_chain(2)
    assert answers.read_coins((one.id, other.id), (b"", other.raw)) == {other.id: other}
    for answer in ((one.raw,), (other.raw, b""), (one.raw[:-1], b"")):
        with pytest.raises(MismatchedAnswerError):
            answers.read_coins((one.id, other.id), answer)
    wids = tuple(Wid(TRANSFER_FULL(raw)) for raw in (b"a", b"b"))
    assert answers.read_transfers(wids, (b"a",)) == [b"a"]
    assert answers.read_transfers(wids, (b"", b"b")) == [None, b"b"]
    for answer in ((), (b"b",), (b"a", b"b", b"")):
        with pytest.raises(MismatchedAnswerError):
            answers.read_transfers(wids, answer)


def test_votes_come_in_order_and_say_where_to_go_on_and_which_of_them_count() -> None:
    anchors = (an_id(50), an_id(40))
    coins = sorted((an_anchor(anchors[0], n, a_body()) for n in range(3)), key=lambda c: c.id)
    coins += sorted((an_anchor(anchors[1], n, a_body()) for n in range(2)), key=lambda c: c.id)
    request = VotesRequest(anchors, ZERO32)

    def page(of: list[Coin], more: int = 0, counting: tuple[int, ...] = ()) -> VotesPage:
        return VotesPage(tuple(coin.raw for coin in of), counting, more)

    assert answers.read_votes(request, page(coins)) == answers.VotesRead(coins, [], None)
    first = answers.read_votes(request, page(coins[:2], 1, (1,)))
    rest = VotesRequest(anchors, coins[1].id)
    assert first == answers.VotesRead(coins[:2], [coins[1].id], rest)
    second = answers.read_votes(rest, page(coins[2:4], 1, (0, 1)))
    assert second.rest == VotesRequest(anchors[1:], coins[3].id)
    assert second.counting == [coins[2].id, coins[3].id]
    for wrong in (coins[::-1], [coins[0], coins[0]], [an_anchor(an_id(3), 1, a_body())]):
        with pytest.raises(MismatchedAnswerError):
            answers.read_votes(request, page(wrong))
    for places in ((1, 0), (1, 1), (5,)):
        with pytest.raises(MismatchedAnswerError, match="places"):
            answers.read_votes(request, page(coins, 0, places))
    with pytest.raises(MismatchedAnswerError):
        answers.read_votes(rest, page(coins[:1]))
    with pytest.raises(MismatchedAnswerError):
        answers.read_votes(request, page([], 1))


def test_answer_errors_are_one_family() -> None:
    assert {MalformedAnswerError, MismatchedAnswerError, RefusedAnswerError} == set(
        AnswerError.__subclasses__()
    )


@pytest.mark.parametrize("name", ["bodies", "coins", "transfers", "votes", "headers"])
def test_no_request_names_an_id_twice(name: str) -> None:
    def request(*ids: CoinId) -> object:
        if name == "votes":
            return VotesRequest(ids, ZERO32)
        return HeadersRequest(ids, an_id(9)) if name == "headers" else ids

    (exchange,) = (
        it
        for it in vars(messages).values()
        if getattr(it, "name", "") == name and isinstance(it, messages.Exchange)
    )
    assert exchange.decode_request(encode(request(an_id(1), an_id(2))))
    with pytest.raises(NonCanonicalError, match="one that is repeated"):
        exchange.decode_request(encode(request(an_id(1), an_id(2), an_id(1))))
