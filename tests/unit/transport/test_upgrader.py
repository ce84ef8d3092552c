from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.framework.p2p_wire import MemoryWire, wires
from unchained.node.base.clock import SystemClock
from unchained.node.transport.contract import HYBRID_GROUP, PeerId
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.pace import Pace
from unchained.node.transport.libp2p.secured import NotSecuredError, SecurityMismatchError
from unchained.node.transport.libp2p.streams import agree, propose
from unchained.node.transport.libp2p.upgrader import SecurityPolicy, Upgraded, Upgrader

ME = Identity.from_seed(b"1" * 32)
OTHER = Identity.from_seed(b"2" * 32)
HYBRID, NOISE = f"tls {HYBRID_GROUP}", "noise X25519"


def upgrader(identity: Identity, policy: SecurityPolicy) -> Upgrader:
    return Upgrader(identity, NodeBudget(), SystemClock(), policy)


def noise_alone(identity: Identity) -> Upgrader:
    made = upgrader(identity, "any")
    made._offered = made._offered[1:]
    return made


async def connect(
    one: Upgrader, other: Upgrader, ends: tuple[MemoryWire, MemoryWire] | None = None
) -> tuple[Upgraded | Exception | None, Upgraded | Exception | None]:
    """Let one dial the other; return what came of it at each end."""
    here, there = ends or wires()
    made: dict[str, Any] = {}

    async def dial(wire: Any) -> None:
        try:
            made["out"] = await one.outbound(wire, OTHER.peer)
        except Exception as error:  # noqa: BLE001 - what is looked at
            made["out"] = error
            await wire.close()

    async def answer(wire: Any) -> None:
        try:
            made["in"] = await other.inbound(wire, lambda peer: peer == ME.peer)
        except Exception as error:  # noqa: BLE001 - what is looked at
            made["in"] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial, here)
        nursery.start_soon(answer, there)
    return made["out"], made["in"]


@pytest.mark.parametrize(
    ("dials", "listens", "agreed"),
    [
        (upgrader(ME, "hybrid"), upgrader(OTHER, "hybrid"), HYBRID),
        (upgrader(ME, "hybrid"), upgrader(OTHER, "any"), HYBRID),
        (upgrader(ME, "any"), upgrader(OTHER, "hybrid"), HYBRID),
        (upgrader(ME, "any"), upgrader(OTHER, "any"), HYBRID),
        (upgrader(ME, "any"), noise_alone(OTHER), NOISE),
        (noise_alone(ME), upgrader(OTHER, "any"), NOISE),
    ],
)
async def test_the_best_of_both_is_spoken(dials: Upgrader, listens: Upgrader, agreed: str) -> None:
    out, into = await connect(dials, listens)
    assert isinstance(out, Upgraded)
    assert isinstance(into, Upgraded)
    assert (out.peer, into.peer) == (OTHER.peer, ME.peer)
    assert str(out.security) == str(into.security) == agreed
    # Who dialled by TLS has not heard yet that it was let in.
    assert out.is_accepted is (agreed == NOISE)
    assert into.is_accepted


async def test_the_choices_of_security_and_multiplexer_take_no_round_trip() -> None:
    """Three messages in turn and the dialler may speak; asking first takes two more, and Noise with
    a multiplexer agreed on afterwards five more."""
    for dials, listens, messages in (
        (upgrader(ME, "hybrid"), upgrader(OTHER, "hybrid"), 3),
        (upgrader(ME, "any"), upgrader(OTHER, "hybrid"), 5),
        (upgrader(ME, "any"), noise_alone(OTHER), 8),
    ):
        ends = wires()
        out, _ = await connect(dials, listens, ends)
        assert isinstance(out, Upgraded)
        # And then the listener says that it lets the dialler in.
        assert len(ends[0].flights) == messages + (messages < 8)


async def test_a_listener_that_has_no_hybrid_is_refused() -> None:
    out, into = await connect(upgrader(ME, "hybrid"), noise_alone(OTHER))
    assert isinstance(out, SecurityMismatchError)
    assert isinstance(into, SecurityMismatchError)
    assert str(into) == "no security protocol in common (theirs: /tls/1.0.0)"


async def test_a_dialler_that_has_no_hybrid_is_refused() -> None:
    out, into = await connect(noise_alone(ME), upgrader(OTHER, "hybrid"))
    assert isinstance(out, SecurityMismatchError)
    assert str(into) == "no security protocol in common (theirs: /noise)"


async def test_who_refuses_a_peer_says_nothing_in_the_link() -> None:
    ends = wires()
    stranger = upgrader(Identity.from_seed(b"3" * 32), "hybrid")
    out, into = await connect(stranger, upgrader(OTHER, "hybrid"), ends)
    assert into is None
    assert isinstance(out, Upgraded)
    assert not out.is_accepted
    assert ends[0].flights[-1] is ends[0]


async def test_a_peer_of_multistream_alone_is_answered_line_by_line() -> None:
    """A client need not send anything along: it may wait for each answer."""
    here, there = wires()
    ours = upgrader(OTHER, "hybrid")
    tls = upgrader(ME, "hybrid")._tls
    made: list[Any] = []

    async def answer(wire: Any) -> None:
        made.append(await ours.inbound(wire, lambda _: True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, there)
        await propose(here, "/tls/1.0.0")
        tls._opening.set_alpn_protos([b"libp2p"])
        session = tls.start(here, Pace(None), is_initiator=True)
        await here.write(session.hello())
        secured = await tls.finish(session, PeerId(OTHER.peer))
        assert not secured.muxer_agreed
        await propose(secured.session, "/yamux/1.0.0")
    assert made[0].peer == ME.peer


async def test_what_a_peer_asks_for_is_shown_no_longer_than_fits() -> None:
    here, there = wires()
    wire: Any = there
    names = ["/" + "x" * 900, "/\x07", *(f"/protocol/{number}" for number in range(6))]
    asked = b"".join(_line(name) for name in ("/multistream/1.0.0", *names))
    await here.write(asked)
    await here.close()
    with pytest.raises(SecurityMismatchError) as refusal:
        await upgrader(OTHER, "hybrid").inbound(wire, lambda _: True)
    assert str(refusal.value) == (
        f"no security protocol in common (theirs: /{'x' * 39}, '/\\x07', /protocol/0, /protocol/1)"
    )


def _line(name: str) -> bytes:
    data = name.encode() + b"\n"
    length = len(data)
    head = bytes([length]) if length < 128 else bytes([length & 0x7F | 0x80, length >> 7])
    return head + data


async def test_a_listener_is_asked_what_it_speaks() -> None:
    for served, named in ((("/noise",), "/noise"), (("/plaintext/2.0.0",), "/plaintext/2.0.0")):
        here, there = wires()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agree, there, served)
            wire: Any = here
            assert await upgrader(ME, "hybrid")._ask(wire) == named
    here, _ = wires()
    await here.close()
    wire = here
    assert await upgrader(ME, "hybrid")._ask(wire) == ""


async def test_garbage_instead_of_tls_is_refused_in_words() -> None:
    here, there = wires()
    wire: Any = there
    await here.write(_line("/multistream/1.0.0") + _line("/tls/1.0.0") + b"\0\3abc" * 4)
    with pytest.raises(NotSecuredError, match="TLS: "):
        await upgrader(OTHER, "hybrid").inbound(wire, lambda _: True)
