"""What a node says at `/readyz` of its peers, and of a chain that nobody was there to compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.framework.simulation.simnet import simulate
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.rpc.http.readiness import ReadinessCheck


class FakePeers:
    def __init__(self, greeted: int, others: list[str]) -> None:
        self.count = greeted
        self.others = others

    def greeted(self) -> range:
        return range(self.count)

    @property
    def strangers(self) -> FakePeers:
        return self

    def networks(self) -> list[str]:
        return self.others


@pytest.mark.parametrize(
    ("greeted", "others", "synced", "peers"),
    [
        (0, [], "not known: no peer of this network has answered yet", "no peers"),
        (
            0,
            ["test 0123", "abcd"],
            "not known: no peer of this network has answered yet",
            "no peers; who answers is of test 0123, or of abcd",
        ),
        (2, ["test 0123"], "the chain is behind that of the peers", "ok: 2"),
    ],
)
async def test_a_node_is_behind_its_peers_only_if_it_has_some(
    tmp_path: Path, greeted: int, others: list[str], synced: str, peers: str
) -> None:
    async with simulate(62) as net:
        node = net.node()
        await node.start()
        readiness = ReadinessCheck(
            node.chain,
            tmp_path,
            TrioClock(0),
            synced=Watch(False),
            peers=FakePeers(greeted, others),
        )
        checks = readiness.check().checks
        assert checks["synced"] == synced
        assert checks["peers"] == peers
