"""Clients from crates.io connect to a node: rustls with aws-lc-rs, and rust-libp2p.

Cargo builds them, which takes minutes the first time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.framework.cargo import build
from tests.framework.p2p_process import Process, node

pytestmark = [pytest.mark.real_time, pytest.mark.slow]

HYBRID = "X25519MLKEM768"
YAMUX = "/yamux/1.0.0"
GOSSIP = "/meshsub/1.2.0"
PATIENCE_S = 60


@pytest.fixture(scope="session")
def clients() -> Path:
    return build("tests/clients/rust") / "clients"


async def run(clients: Path, *arguments: str) -> tuple[int, str]:
    """Run a client; return its exit code and what it printed."""
    with trio.fail_after(PATIENCE_S):
        done = await trio.run_process(
            [clients, *arguments], capture_stdout=True, capture_stderr=True, check=False
        )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout.decode().strip()


async def refused_for(process: Process) -> str:
    """Wait until a node has refused a handshake, and return what it says of it."""
    event = await process.event("misbehaved", "127.0.0.1", None, "handshake_failed")
    process.events.clear()
    return str(event[4])


async def test_rustls_makes_a_post_quantum_link(clients: Path) -> None:
    for takes_any in (False, True):
        async with node(1, takes_any=takes_any) as ours:
            for offered, chosen in (
                (f"{YAMUX},libp2p", YAMUX),
                (f"libp2p,{YAMUX}", YAMUX),
                ("libp2p", "libp2p"),
            ):
                agreed = await run(clients, "rustls", HYBRID, offered, ours.address)
                assert agreed == (0, f"{ours.id} {HYBRID} {chosen} {GOSSIP}")
                assert (await ours.event("connected"))[4] == f"tls {HYBRID}"
                await ours.event("disconnected")
                ours.events.clear()


async def test_rustls_without_the_hybrid_is_refused_in_words(clients: Path) -> None:
    async with node(1) as ours, node(2, takes_any=True) as liberal:
        code, said = await run(clients, "rustls", "X25519", "libp2p", ours.address)
        assert (code, said) == (1, "refused: received fatal alert: HandshakeFailure")
        assert await refused_for(ours) == f"no TLS key exchange in common (ours: {HYBRID})"
        agreed = await run(clients, "rustls", "X25519", "libp2p", liberal.address)
        assert agreed == (0, f"{liberal.id} X25519 libp2p {GOSSIP}")
        assert (await liberal.event("connected"))[4] == "tls x25519"


async def test_rustls_that_is_no_libp2p_is_refused(clients: Path) -> None:
    async with node(1) as ours:
        code, said = await run(clients, "rustls", HYBRID, "h2", ours.address)
        assert (code, said) == (1, "refused: received fatal alert: NoApplicationProtocol")
        assert "application protocols" in await refused_for(ours)


async def test_rust_libp2p_connects_where_any_link_is_taken(clients: Path) -> None:
    async with node(1, takes_any=True) as ours:
        for security, shown in (("tls", "tls x25519"), ("noise", "noise X25519")):
            assert await run(clients, "libp2p", security, ours.address) == (0, ours.id)
            assert (await ours.event("connected"))[4] == shown
            ours.events.clear()


async def test_rust_libp2p_is_refused_in_words_by_a_hybrid_node(clients: Path) -> None:
    async with node(1) as ours:
        code, said = await run(clients, "libp2p", "tls", ours.address)
        assert code == 1
        assert "HandshakeFailure" in said
        assert await refused_for(ours) == f"no TLS key exchange in common (ours: {HYBRID})"
        code, said = await run(clients, "libp2p", "noise", ours.address)
        assert code == 1
        # What rust-libp2p calls it when multistream found nothing in common.
        assert "error: Failed" in said
        assert await refused_for(ours) == "no security protocol in common (theirs: /noise)"
        assert (await ours.ok("state"))["peers"] == []
