"""A peer of another network, or of earlier rules: one line names both networks."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.framework.simulation.simnet import SIM, SimNode, simulate
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import NETWORKS, TEST
from unchained.node.peers.strangers import EARLIER_GENESIS_IDS, STRANGER_S
from unchained.node.transport.contract import (
    DialError,
    PeerId,
    ServeLimits,
    TopicLimits,
    Verdict,
)
from unchained.node.wire import limits
from unchained.node.wire.limits import name_of

EARLIER = EARLIER_GENESIS_IDS["221ea2ea"]
UNKNOWN = "0123456789abcdef" * 4
TEST_ID = genesis_of(TEST).id.hex()


class Warnings:
    """Takes the place of the log of a node's peers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))


def listen_to(node: SimNode) -> Warnings:
    warnings = Warnings()
    node.network.peers.strangers._log = warnings  # type: ignore[assignment]
    return warnings


async def _answer(_peer: PeerId, _request: bytes) -> bytes:
    raise AssertionError("nothing is asked of a peer of another network")


async def _validate(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.IGNORE


@pytest.mark.parametrize(
    ("genesis", "named"),
    [(EARLIER, f"release 0.1 {EARLIER}"), (UNKNOWN, UNKNOWN[:8]), (TEST_ID, f"test {TEST_ID}")],
    ids=["earlier", "unknown", "test"],
)
@pytest.mark.parametrize("told_by", ["topics", "protocols"])
@pytest.mark.parametrize("dials", ["node", "stranger"])
async def test_a_peer_of_another_network_is_named_once_and_parted_from(
    genesis: str, named: str, told_by: str, dials: str
) -> None:
    async with simulate(61) as net:
        node = net.node()
        await node.start()
        warnings = listen_to(node)
        stranger = net.transport("stranger", "66.6.0.7")
        for kind in limits.TOPICS if told_by == "topics" else limits.EXCHANGES:
            name = name_of(bytes.fromhex(genesis), kind.name)
            if told_by == "topics":
                stranger.subscribe(name, _validate, TopicLimits(max_size=1 << 20))
            else:
                stranger.serve(name, _answer, ServeLimits(1 << 10, 8, 8))
        await net.run_transport(stranger)
        stranger.asks = told_by == "topics"
        one, address = stranger, node.transport.address
        if dials == "node":
            one, address = node.transport, stranger.address
        await one.connect(address)
        await net.until(lambda: not node.transport.peers(), "gone", 5)
        ((event, fields),) = warnings.lines
        assert event == "peer.other_network"
        assert fields["ours"] == genesis_of(SIM).id.hex()
        assert fields["theirs"] == named
        assert fields["peer"] == stranger.id
        assert node.network.peers.strangers.networks() == [named]
        # Nobody did wrong, and nobody tries again soon.
        statistics = node.network.peers.statistics()
        assert statistics.penalties == {}
        assert statistics.bans == 0
        with pytest.raises(DialError):
            await node.transport.connect(stranger.address)
        await trio.sleep(STRANGER_S + 1)
        assert node.network.peers.strangers.networks() == []
        await node.transport.connect(stranger.address)
        await net.until(lambda: not node.transport.peers(), "gone again", 5)
        assert len(warnings.lines) == 1


def test_the_earlier_rules_are_not_those_of_a_network_of_today() -> None:
    assert len(EARLIER_GENESIS_IDS) == 4
    today = {genesis_of(network).id.hex()[:8] for network in NETWORKS.values()}
    assert not today & set(EARLIER_GENESIS_IDS)
    assert all(found.startswith(tag) for tag, found in EARLIER_GENESIS_IDS.items())
