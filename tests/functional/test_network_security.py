"""`network.security` of an `unchained-node` process, and where its links are marked."""

from __future__ import annotations

import urllib.request

import pytest
import trio

from tests.framework.network import network, until
from tests.framework.p2p_peer import bare_peer
from unchained.node.rpc.core.errors import RefusedError

pytestmark = pytest.mark.real_time


async def test_a_classical_link_is_marked_wherever_peers_are_shown(
    request: pytest.FixtureRequest,
) -> None:
    with network(request=request) as net:
        node = net.node("--no-mine", "--set", "network.security=any")
        node.start()
        async with bare_peer(1, only_noise=True) as classical, bare_peer(2) as hybrid:
            await classical.transport.connect(node.full_address)
            await hybrid.transport.connect(node.full_address)
            await trio.to_thread.run_sync(
                lambda: until(lambda: node.call("net.info")["greeted"] == 2, "both are greeted")
            )
            found = {peer["peer"]: peer for peer in node.call("net.peers")}
            one, other = found[str(classical.transport.id)], found[str(hybrid.transport.id)]
            assert (one["security"], one["post_quantum"]) == ("noise X25519", False)
            assert (other["security"], other["post_quantum"]) == ("tls X25519MLKEM768", True)
            assert node.call("net.info")["classical"] == 1
            statistics = node.call("debug.statistics")["network"]["transport"]
            assert statistics["classical"] == 1
            shown = net.home.run("peers", "--network", "reg", "--data-dir", str(node.data_dir))
            assert "noise X25519 (classical)" in shown.stdout
            assert shown.stdout.count("(classical)") == 1
            url = str(node.process.wait_event("rpc.listening")["url"])
            assert "\nunchained_peers_classical 1.0\n" in await fetched(f"{url}/metrics")
            page = await fetched(f"{url}/peers")
            assert "<dt>not post-quantum</dt><dd>1</dd>" in page
            assert page.count("noise X25519 (can be recorded and read one day)") == 1
            assert page.count("(can be recorded") == 1
            assert "tls X25519MLKEM768" in page


async def fetched(url: str) -> str:
    """Return what a node's page shows."""

    def fetch() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    return await trio.to_thread.run_sync(fetch)


async def test_a_hybrid_node_says_why_it_does_not_connect(request: pytest.FixtureRequest) -> None:
    with network(request=request) as net:
        node = net.node("--no-mine")
        node.start()
        async with bare_peer(1, only_noise=True) as classical:
            (address,) = classical.transport.addresses()
            with pytest.raises(RefusedError) as refusal:
                await trio.to_thread.run_sync(lambda: node.call("net.add_peer", address=address))
            assert "no security protocol in common (theirs: /noise)" in str(refusal.value)
            assert node.call("net.peers") == []
