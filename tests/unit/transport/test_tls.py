from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from libp2p.io.exceptions import ConnectionClosedError
from OpenSSL import SSL
from OpenSSL.crypto import X509

from tests.framework.p2p_certificates import NOW, UNKNOWN_OID, Forge, new_key
from tests.framework.p2p_tls_records import DATA, Keylog, RecordSealer
from tests.framework.p2p_wire import MemoryWire, wires
from unchained.node.transport.contract import HYBRID_GROUP, CannotSecureError, Misbehaviour
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p import tls
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.certificate import (
    RSA_BITS_MAX,
    BadCertificateError,
    OwnCertificate,
)
from unchained.node.transport.libp2p.pace import (
    INBOUND_WORK_BURST,
    INBOUND_WORK_PER_S,
    OWED_MAX,
    PEER_WORK_BURST,
    PEER_WORK_PER_S,
    WORK_PER_RECORD,
    Pace,
    WorkPool,
)
from unchained.node.transport.libp2p.secured import (
    FloodError,
    NotSecuredError,
    Secured,
    WrongPeerError,
)
from unchained.node.transport.libp2p.tls import (
    HANDSHAKE_BYTES_MAX,
    RECORD_BYTES_MAX,
    WRITE_BYTES,
    Tls,
    TlsSession,
)
from unchained.node.transport.libp2p.tls_records import RECORDS_AT_ONCE, TlsRecords
from unchained.node.transport.libp2p.yamux import FrameFaultError, YamuxGuard

YAMUX = "/yamux/1.0.0"
ME = Identity.from_seed(b"1" * 32)
OTHER = Identity.from_seed(b"2" * 32)
HELLO = 0x16
"""The first byte of a TLS record of a handshake."""


class FixedClock:
    def now_ms(self) -> int:
        return int(NOW.timestamp() * 1000)


def end_of(identity: Identity, *, classical: bool = False) -> Tls:
    return Tls(identity, FixedClock(), YAMUX, classical=classical)


def forged(forge: Forge) -> Tls:
    """Return an end that shows a certificate of the test's."""
    end = end_of(forge.identity)
    # A context has a place for each kind of key, so the test's own goes into new ones.
    own = OwnCertificate(forge.make(), forge.key)
    end._opening = end._make_context(own, SSL.VERIFY_PEER)
    end._accepting = end._make_context(own, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return end


def with_groups(end: Tls, groups: str) -> Tls:
    for context in (end._opening, end._accepting):
        tls._set_groups(context, groups)
    return end


@dataclass
class Outcome:
    """What a handshake came to at each end: a connection, or why there is none."""

    opened: Secured | Exception | None = None
    accepted: Secured | Exception | None = None
    wires: tuple[MemoryWire, MemoryWire] | None = None


async def shake(
    one: Tls,
    other: Tls,
    expected: Identity | None = None,
    *,
    give: Any = None,
    pool: WorkPool | None = None,
) -> Outcome:
    """Let one end open and the other accept, until both are through or one gives up."""
    here, there = give or wires()
    outcome = Outcome(wires=(here, there))
    opening = one.start(here, Pace(None), is_initiator=True)
    accepting = other.start(there, Pace(pool), is_initiator=False)
    await here.write(opening.hello())
    peer = None if expected is None else expected.peer

    async def run(name: str, finish: Callable[[], Awaitable[Secured]]) -> None:
        try:
            setattr(outcome, name, await finish())
        except (NotSecuredError, ConnectionClosedError) as error:
            setattr(outcome, name, error)
            await here.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "opened", lambda: one.finish(opening, peer))
        nursery.start_soon(run, "accepted", lambda: other.finish(accepting, None))
    return outcome


async def connected(one: Tls | None = None, other: Tls | None = None) -> tuple[Secured, Secured]:
    outcome = await shake(one or end_of(ME), other or end_of(OTHER), OTHER)
    assert isinstance(outcome.opened, Secured)
    assert isinstance(outcome.accepted, Secured)
    return outcome.opened, outcome.accepted


async def test_both_ends_know_each_other_and_the_group() -> None:
    opened, accepted = await connected()
    assert (opened.peer, accepted.peer) == (OTHER.peer, ME.peer)
    for end in (opened, accepted):
        assert end.security.post_quantum
        assert str(end.security) == f"tls {HYBRID_GROUP}"
        assert end.muxer_agreed
    assert opened.session.is_initiator
    assert not accepted.session.is_initiator


async def test_what_is_written_is_read_whatever_its_size() -> None:
    opened, accepted = await connected()
    rng = random.Random(1)
    sizes = [0, 1, 11, 16_383, 16_384, 16_385, 65_536, 1_000_000]
    for here, there in ((opened.session, accepted.session), (accepted.session, opened.session)):
        sent = [rng.randbytes(size) for size in sizes]
        for data in sent:
            await here.write(data)
        received = b"".join(sent)
        at = 0
        while at < len(received):
            # Frames are read by their heads, and these across what they were written in.
            step = min(rng.choice((1, 12, 5_000, 70_000)), len(received) - at)
            assert await there.read(step) == received[at : at + step]
            at += step
        await here.write(b"the rest")
        assert await there.read() == b"the rest"


async def test_nothing_of_it_can_be_seen_on_the_wire() -> None:
    here, there = wires()
    seen: list[bytes] = []
    take = there._take
    there._take = lambda data: (seen.append(data), take(data))[1]
    outcome = await shake(end_of(ME), end_of(OTHER), OTHER, give=(here, there))
    assert isinstance(outcome.opened, Secured)
    await outcome.opened.session.write(b"a secret" * 100)
    assert b"a secret" not in b"".join(seen)
    assert ME.key_pair.public_key.to_bytes() not in b"".join(seen)


BROKEN: dict[str, tuple[Callable[[], Forge], str]] = {
    "expired": (lambda: Forge(ME, until=NOW - timedelta(seconds=1)), "valid from"),
    "unsigned by its key": (lambda: Forge(ME, signer=new_key()), "not signed by its own key"),
    "of another identity": (
        lambda: Forge(ME, public_key=OTHER.key_pair.public_key.serialize()),
        "not signed by the identity",
    ),
    "without the extension": (lambda: Forge(ME, has_extension=False), "no libp2p extension"),
    "with an unknown critical extension": (
        lambda: Forge(ME, further=((x509.UnrecognizedExtension(UNKNOWN_OID, b"\x05\x00"), True),)),
        "critical extension",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_certificate_makes_no_link_on_either_side(what: str) -> None:
    forge, words = BROKEN[what]
    for outcome in (
        (await shake(end_of(OTHER), forged(forge()))).opened,
        (await shake(forged(forge()), end_of(OTHER))).accepted,
    ):
        assert isinstance(outcome, BadCertificateError)
        assert words in str(outcome)


async def test_a_chain_makes_no_link_on_either_side() -> None:
    def with_chain() -> Tls:
        end = end_of(ME)
        for context in (end._opening, end._accepting):
            context.add_extra_chain_cert(Forge(ME).make())
        return end

    for outcome in (
        (await shake(end_of(OTHER), with_chain())).opened,
        (await shake(with_chain(), end_of(OTHER))).accepted,
    ):
        assert isinstance(outcome, BadCertificateError)
        assert str(outcome) == "a chain of 2 certificates, not one"


async def test_a_certificate_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL asks of it twice, and it is looked at again when the handshake is done."""
    read: list[None] = []
    to_cryptography = X509.to_cryptography

    def counted(certificate: X509) -> x509.Certificate:
        read.append(None)
        return to_cryptography(certificate)

    monkeypatch.setattr(X509, "to_cryptography", counted)
    await connected()
    assert len(read) == 2  # that of each end


def linked(count: int) -> list[x509.Certificate]:
    """Return so many certificates of which each names the next as its issuer."""
    names = [f"a{number}" for number in range(count)]
    return [
        Forge(ME, subject=name, issuer=issuer).make()
        for name, issuer in zip(names, [*names[1:], names[-1]], strict=True)
    ]


async def test_of_a_chain_no_signature_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the handshake where OpenSSL asks first: at its end, before it checks any."""
    asked: list[int] = []
    take = tls._take_if_cheap

    def counted(*given: Any) -> bool:
        asked.append(given[3])
        return take(*given)

    monkeypatch.setattr(tls, "_take_if_cheap", counted)
    forge = Forge(ME, issuer="a0", subject="leaf")
    chained = forged(forge)
    for context in (chained._opening, chained._accepting):
        for certificate in linked(11):
            context.add_extra_chain_cert(certificate)
    for of in ("opened", "accepted"):
        asked.clear()
        ends = (end_of(OTHER), chained) if of == "opened" else (chained, end_of(OTHER))
        outcome = getattr(await shake(*ends), of)
        assert isinstance(outcome, BadCertificateError)
        assert str(outcome) == "a chain of 12 certificates, not one"
        # The other end is asked of our own certificate alone.
        assert [depth for depth in asked if depth] == [11]


async def test_a_key_that_is_long_to_check_by_is_refused_before_it_is_used() -> None:
    costly = costly_key()
    for outcome in (
        (await shake(end_of(OTHER), forged(Forge(ME, key=costly)))).opened,
        (await shake(forged(Forge(ME, key=costly)), end_of(OTHER))).accepted,
    ):
        assert isinstance(outcome, BadCertificateError)
        assert str(outcome).startswith(f"an RSA key above {RSA_BITS_MAX} bits, or with an exponent")


async def test_an_rsa_key_of_the_usual_kind_makes_a_link() -> None:
    usual = forged(Forge(ME, key=rsa.generate_private_key(65537, 2048)))
    opened, accepted = await connected(usual)
    assert (opened.peer, accepted.peer) == (OTHER.peer, ME.peer)


def costly_key() -> rsa.RSAPrivateKey:
    """Return an RSA key whose exponent is as long as its modulus."""
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    p, q = numbers.p, numbers.q
    totient = (p - 1) * (q - 1)
    d = next(d for d in range((1 << 600) + 1, 1 << 601, 2) if math.gcd(d, totient) == 1)
    public = rsa.RSAPublicNumbers(pow(d, -1, totient), p * q)
    made = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), numbers.iqmp, public)
    return made.private_key(unsafe_skip_rsa_key_validation=True)


def plain(context: SSL.Context, wire: MemoryWire, *, is_initiator: bool) -> TlsSession:
    """Return an end whose context is of the test's own making."""
    connection = SSL.Connection(context, None)
    (connection.set_connect_state if is_initiator else connection.set_accept_state)()
    return TlsSession(wire, connection, Pace(None), is_initiator=is_initiator)


async def accepted_from(context: SSL.Context, end: Tls | None = None) -> Secured | Exception:
    """Open by a context of the test's, and return what the other end made of it."""
    here, there = wires()
    client = plain(context, here, is_initiator=True)
    accepting = (end or end_of(OTHER)).start(there, Pace(None), is_initiator=False)
    outcome: list[Secured | Exception] = []

    async def accept() -> None:
        try:
            outcome.append(await (end or end_of(OTHER)).finish(accepting, None))
        except NotSecuredError as error:
            outcome.append(error)
        await here.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await here.write(client.hello())
        try:
            await client.shake_hands()
            await client.flush()
        except (NotSecuredError, ConnectionClosedError):
            pass
    return outcome[0]


async def test_who_shows_no_certificate_is_refused() -> None:
    outcome = await accepted_from(SSL.Context(SSL.TLS_METHOD))
    assert str(outcome) == "TLS: peer did not return a certificate"


async def test_what_is_older_than_tls_1_3_is_refused() -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    for end in (end_of(OTHER), end_of(OTHER, classical=True)):
        assert str(await accepted_from(context, end)) == "TLS: unsupported protocol"


async def test_a_classical_group_is_refused_in_words_that_reach_the_other_end() -> None:
    classical = with_groups(end_of(ME, classical=True), "X25519:P-256")
    ours = end_of(OTHER)
    outcome = await shake(classical, ours)
    assert str(outcome.accepted) == f"no TLS key exchange in common (ours: {HYBRID_GROUP})"
    assert str(outcome.opened) == f"the peer's TLS has no key exchange of ours ({HYBRID_GROUP})"
    outcome = await shake(ours, classical)
    assert str(outcome.opened) == f"the peer's TLS has no key exchange of ours ({HYBRID_GROUP})"
    assert isinstance(outcome.accepted, NotSecuredError)


async def test_a_classical_group_is_refused_even_if_openssl_took_it() -> None:
    """What was agreed on is asked for, whatever was offered."""
    classical = with_groups(end_of(ME, classical=True), "X25519")
    lax = with_groups(end_of(OTHER), f"X25519:{HYBRID_GROUP}")
    words = f"the peer's TLS agreed on x25519, not on {HYBRID_GROUP}"
    assert str((await shake(classical, lax)).accepted) == words
    outcome = await shake(lax, classical)
    assert str(outcome.opened) == words
    # The side that opened shows nobody who it is before it has seen the other's certificate.
    assert outcome.wires is not None
    assert outcome.wires[0].flights.count(outcome.wires[0]) == 1


async def test_where_any_is_taken_the_best_of_both_is_agreed_on() -> None:
    liberal = end_of(OTHER, classical=True)
    for groups, agreed in (
        ("X25519", "x25519"),
        ("P-256", "secp256r1"),
        (f"X25519:{HYBRID_GROUP}", HYBRID_GROUP),
    ):
        opened, accepted = await connected(with_groups(end_of(ME, classical=True), groups), liberal)
        assert opened.security.group == accepted.security.group == agreed
        assert opened.security.post_quantum is (agreed == HYBRID_GROUP)


async def test_a_man_in_the_middle_who_has_only_x25519_gets_no_link() -> None:
    middle = with_groups(end_of(Identity.from_seed(b"3" * 32), classical=True), "X25519")
    for outcome in (await shake(end_of(ME), middle, OTHER), await shake(middle, end_of(OTHER))):
        assert isinstance(outcome.opened, NotSecuredError)
        assert isinstance(outcome.accepted, NotSecuredError)


async def test_a_man_in_the_middle_who_changes_a_byte_gets_no_link() -> None:
    """What both sides offered is part of what they sign: nothing of it can be taken out."""
    rng = random.Random(2)
    for _ in range(60):
        here, there = wires()
        for end in rng.choice(((here,), (there,), (here, there))):
            spoil(end, rng)
        outcome = await shake(end_of(ME), end_of(OTHER), OTHER, give=(here, there))
        both = isinstance(outcome.opened, Secured) and isinstance(outcome.accepted, Secured)
        assert not both


def spoil(end: MemoryWire, rng: random.Random) -> None:
    """Change a bit of the first message that an end gets, past the head of its record."""
    take, spoiled = end._take, []

    def changed(data: bytes) -> None:
        if not spoiled:
            at = rng.randrange(5, min(len(data), 1_200))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            spoiled.append(at)
        take(data)

    end._take = changed


async def test_another_peer_than_expected_is_refused_and_told_nothing() -> None:
    outcome = await shake(end_of(ME), end_of(OTHER), Identity.from_seed(b"3" * 32))
    assert isinstance(outcome.opened, WrongPeerError)
    assert isinstance(outcome.accepted, ConnectionClosedError)
    assert outcome.wires is not None
    assert outcome.wires[0].flights.count(outcome.wires[0]) == 1


async def test_the_multiplexer_is_chosen_if_both_have_it() -> None:
    for offered, agreed in (((b"libp2p",), False), ((b"libp2p", YAMUX.encode()), True)):
        end = end_of(ME)
        end._opening.set_alpn_protos(list(offered))
        opened, accepted = await connected(end, end_of(OTHER))
        assert opened.muxer_agreed is accepted.muxer_agreed is agreed


async def test_who_offers_no_protocol_of_libp2p_is_refused() -> None:
    end = end_of(ME)
    end._opening.set_alpn_protos([b"h2", b"/mplex/6.7.0"])
    outcome = await shake(end, end_of(OTHER))
    assert "none of the application protocols" in str(outcome.accepted)
    assert isinstance(outcome.opened, NotSecuredError)


async def test_who_offers_no_protocol_at_all_is_refused() -> None:
    forge = Forge(ME)
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(forge.make())
    context.use_privatekey(forge.key)
    words = "the peer's TLS chose no application protocol of libp2p"
    assert str(await accepted_from(context)) == words


async def test_a_connection_is_never_resumed() -> None:
    """Each proves its peer anew: a session that was kept brings nothing."""
    one, other = end_of(ME), end_of(OTHER)
    first, at_other = await connected(one, other)
    await at_other.session.write(b"x")
    assert await first.session.read(1) == b"x"
    assert isinstance(first.session, TlsSession)
    kept = first.session.connection.get_session()
    assert kept is not None
    here, there = wires()
    again = one.start(here, Pace(None), is_initiator=True)
    again.connection.set_session(kept)
    accepting = other.start(there, Pace(None), is_initiator=False)
    await here.write(again.hello())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.finish, accepting, None)
        await one.finish(again, OTHER.peer)
    # Only a whole handshake brings a certificate.
    assert there.sent > 1_500
    assert again.connection.get_session() is not kept


async def test_a_listener_says_nothing_more_until_it_writes() -> None:
    """So its first word tells the side that opened that it was let in."""
    outcome = await shake(end_of(ME), end_of(OTHER), OTHER)
    assert outcome.wires is not None
    here, there = outcome.wires
    assert there.flights == [here, there, here]
    assert isinstance(outcome.accepted, Secured)
    await outcome.accepted.session.write(b"welcome")
    assert there.flights == [here, there, here, there]


async def test_a_handshake_is_bounded_in_bytes() -> None:
    # A client's hello that says that it is long, in records that never end it.
    head = b"\x01\x00\xf0\x00\x03\x03"
    record = bytes((HELLO, 3, 1)) + (4_000).to_bytes(2, "big")
    wire, there = wires()
    session = end_of(OTHER).start(there, Pace(None), is_initiator=False)
    await wire.write(record + head + bytes(4_000 - len(head)))
    for _ in range(10):
        await wire.write(record + bytes(4_000))
    with pytest.raises(NotSecuredError, match=f"a TLS handshake above {HANDSHAKE_BYTES_MAX}"):
        await end_of(OTHER).finish(session, None)


async def test_any_bytes_end_in_one_error() -> None:
    rng = random.Random(3)
    hello = end_of(ME).start(wires()[0], Pace(None), is_initiator=True).hello()
    for number in range(200):
        wire, there = wires()
        data = bytearray(hello if number % 2 else rng.randbytes(rng.randrange(1, 3_000)))
        if number % 2:
            for _ in range(3):
                data[rng.randrange(len(data))] = rng.randrange(256)
            del data[rng.randrange(len(data)) :]
        await wire.write(bytes(data))
        await wire.close()
        end = end_of(OTHER)
        with pytest.raises((NotSecuredError, ConnectionClosedError)):
            await end.finish(end.start(there, Pace(None), is_initiator=False), None)


async def test_a_changed_record_ends_the_connection() -> None:
    opened, accepted = await connected()
    assert isinstance(accepted.session, TlsSession)
    wire = accepted.session._wire
    assert isinstance(wire, MemoryWire)
    take = wire._take
    wire._take = lambda data: take(data[:-1] + bytes([data[-1] ^ 1]))
    await opened.session.write(b"hello")
    with pytest.raises(ConnectionClosedError, match="TLS: "):
        await accepted.session.read(5)


async def test_an_orderly_end_is_an_end() -> None:
    opened, accepted = await connected()
    assert isinstance(opened.session, TlsSession)
    opened.session.connection.shutdown()
    await opened.session.flush()
    with pytest.raises(ConnectionClosedError, match="ended its TLS"):
        await accepted.session.read(1)
    with pytest.raises(ConnectionClosedError, match="TLS: "):
        await opened.session.write(b"more")


async def test_records_that_carry_little_wait_at_their_sender() -> None:
    opened, accepted = await connected()
    burst, per_s = PEER_WORK_BURST // WORK_PER_RECORD, PEER_WORK_PER_S // WORK_PER_RECORD
    count = burst + per_s
    for _ in range(count):
        await opened.session.write(b"x")
    start = trio.current_time()
    for _ in range(count):
        assert await accepted.session.read(1) == b"x"
    # Those of the last piece are paid for before the next is read.
    await opened.session.write(b"y")
    assert await accepted.session.read(1) == b"y"
    assert trio.current_time() - start == pytest.approx(1.0, abs=0.1)


async def test_records_of_many_connections_are_paid_for_out_of_one_pool() -> None:
    """What others open costs no more together than is done for all of them."""
    pool = WorkPool(60)
    pairs = []
    for _ in range(3):
        outcome = await shake(end_of(ME), end_of(OTHER), OTHER, pool=pool)
        assert isinstance(outcome.opened, Secured)
        assert isinstance(outcome.accepted, Secured)
        pairs.append((outcome.opened, outcome.accepted))
    count = 4 * INBOUND_WORK_BURST // WORK_PER_RECORD
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run)
        start = trio.current_time()
        for opened, accepted in pairs:
            for _ in range(count + 1):
                await opened.session.write(b"x")
            assert await accepted.session.read(count + 1) == b"x" * (count + 1)
        nursery.cancel_scope.cancel()
    done = len(pairs) * count * WORK_PER_RECORD
    waited = trio.current_time() - start
    # The last one has saved some while it waited for the others here.
    assert waited >= 0.9 * (done - INBOUND_WORK_BURST - OWED_MAX) / INBOUND_WORK_PER_S


async def flooded(send: Callable[[RecordSealer, int], bytes], count: int) -> tuple[Secured, bytes]:
    """Return a connection of a client that sends records of its own making, and these."""
    end = end_of(ME)
    keylog = Keylog(end._opening)
    opened, accepted = await connected(end)
    assert isinstance(opened.session, TlsSession)
    sealer = keylog.sealer(opened.session.connection)
    records = b"".join(send(sealer, number) for number in range(count)) + sealer.seal(DATA, b"end")
    wire = opened.session._wire
    await wire.write(records)
    return accepted, records


EMPTY: dict[str, Callable[[RecordSealer, int], bytes]] = {
    "changes of keys": lambda sealer, _: sealer.key_update(asks=False),
    "changes of keys that ask for ours": lambda sealer, _: sealer.key_update(asks=True),
    # Many in a row are refused by OpenSSL.
    "records without data": lambda sealer, number: sealer.seal(DATA, b"x" * (number % 2)),
}


@pytest.mark.parametrize("what", EMPTY)
async def test_a_flood_of_records_without_data_is_a_fault(what: str) -> None:
    accepted, records = await flooded(EMPTY[what], 5_000)
    assert isinstance(accepted.session, TlsSession)
    with pytest.raises(FloodError, match="records without data"):
        await accepted.session.read(5_000)
    # OpenSSL has seen few of them.
    given = len(records) - len(accepted.session._ahead)
    assert given <= 3 * RECORDS_AT_ONCE * 27


async def test_a_flood_of_records_is_laid_at_the_peers_door() -> None:
    accepted, _ = await flooded(EMPTY["changes of keys"], 500)
    tcp: Any = None
    guard = YamuxGuard(accepted.session, tcp, NodeBudget(), Pace(None))
    with pytest.raises(FrameFaultError):
        await guard.read(12)
    assert guard.fault is not None
    assert guard.fault.kind is Misbehaviour.STREAM_FLOOD
    assert "records without data" in guard.fault.detail


@pytest.mark.parametrize("what", EMPTY)
async def test_some_records_without_data_are_no_fault(what: str) -> None:
    accepted, _ = await flooded(EMPTY[what], 20)
    received = b""
    while not received.endswith(b"end"):
        received += await accepted.session.read()
    assert received.strip(b"x") == b"end"
    await accepted.session.write(b"ours")


async def test_a_flood_that_comes_with_the_handshake_is_held_back() -> None:
    """Until the handshake is done nobody pays; what came along with it is not given at once."""
    records = TlsRecords(Pace(None), trio.current_time())
    data = (b"\x17\x03\x03\x00\x16" + bytes(22)) * 1_000
    assert records.take(data) == RECORDS_AT_ONCE * 27


async def test_records_are_counted_however_they_are_cut() -> None:
    """Honest peers' are never taken for empty ones."""
    rng = random.Random(5)
    opened, accepted = await connected()
    assert isinstance(accepted.session, TlsSession)
    wire = accepted.session._wire
    assert isinstance(wire, MemoryWire)
    for _ in range(60):
        arrived: list[bytes] = []
        take, wire._take = wire._take, arrived.append
        sent = rng.randbytes(rng.choice((1, 30, 16_384, 40_000)))
        for _ in range(20):
            await opened.session.write(sent)
        wire._take = take
        rest = b"".join(arrived)
        whole, received = sent * 20, b""
        while len(received) < len(whole):
            cut = rng.choice((1, 3, 700, 20_000))
            wire._take(rest[:cut])
            rest = rest[cut:]
            with trio.move_on_after(0.001):
                while len(received) < len(whole):
                    received += await accepted.session.read(1)
                    received += accepted.session._take(rng.choice((5, 9_000)))
        assert received == whole


async def test_openssl_is_asked_for_what_has_come_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call in vain would cost an exception; and what goes out goes in large pieces."""
    opened, accepted = await connected()
    await opened.session.write(b"first")  # with the last of the handshake
    await accepted.session.read(5)
    calls: list[str] = []
    for name in ("recv", "sendall"):
        inner = getattr(SSL.Connection, name)

        def counted(
            connection: SSL.Connection, *given: Any, of: str = name, to: Any = inner
        ) -> Any:
            calls.append(of)
            return to(connection, *given)

        monkeypatch.setattr(SSL.Connection, name, counted)
    for _ in range(10):
        await opened.session.write(bytes(1 << 20))
        await accepted.session.read(1 << 20)
    assert calls.count("recv") == 10 * (1 << 20) // RECORD_BYTES_MAX
    assert calls.count("sendall") == 10 * (1 << 20) // WRITE_BYTES


async def test_full_records_do_not_wait() -> None:
    opened, accepted = await connected()
    start = trio.current_time()
    for _ in range(100):
        await opened.session.write(bytes(1 << 20))
        await accepted.session.read(1 << 20)
    assert trio.current_time() == start


def test_a_library_without_the_hybrid_is_named_at_the_start() -> None:
    with pytest.raises(CannotSecureError, match=r"OpenSSL .* has no X25519MLKEM1: expected 3.5"):
        with_groups(end_of(ME), "X25519MLKEM1")
    # What OpenSSL has queued of it disturbs no handshake.
    end_of(ME)


async def test_what_fails_elsewhere_disturbs_no_connection() -> None:
    """OpenSSL keeps one list of errors for a thread, whichever connection they are of."""
    opened, accepted = await connected()
    assert isinstance(accepted.session, TlsSession)
    for forge, _ in BROKEN.values():
        await shake(end_of(OTHER), forged(forge()))
        await shake(forged(forge()), end_of(OTHER))
        await shake(with_groups(end_of(ME, classical=True), "X25519"), end_of(OTHER))
        # What has nothing to read says so, and nothing worse.
        assert accepted.session._take(1) == b""
        await opened.session.write(b"still here")
        assert await accepted.session.read(10) == b"still here"
