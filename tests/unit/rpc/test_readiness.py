"""What a node says at `/readyz` of its peers, and of a chain that nobody was there to compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.framework.simulation.simnet import simulate
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.rpc.http.criterion import Readiness, waits_for
from unchained.node.rpc.http.readiness import ReadinessCheck
from unchained.node.sync.alone import NOBODY_ANSWERS
from unchained.storage.kv import StoreStatistics


class FakePeers:
    def __init__(self, greeted: int, others: list[str]) -> None:
        self.count = greeted
        self.others = others
        self.offset_ms: int | None = None

    def greeted(self) -> range:
        return range(self.count)

    @property
    def strangers(self) -> FakePeers:
        return self

    def networks(self) -> list[str]:
        return self.others

    def clock_offset_ms(self) -> int | None:
        return self.offset_ms

    knows_others = True


@pytest.mark.parametrize(
    ("greeted", "others", "synced", "peers"),
    [
        (0, [], f"not known: {NOBODY_ANSWERS}", "no peers"),
        (
            0,
            ["test 0123", "abcd"],
            f"not known: {NOBODY_ANSWERS}",
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


class FakeSync:
    lag = 7

    def __init__(self, alone_in_s: float | None = None) -> None:
        self._alone_in_s = alone_in_s

    def alone_in_s(self) -> float | None:
        return self._alone_in_s


async def test_how_long_a_node_waits_for_somebody_to_answer_is_said(tmp_path: Path) -> None:
    async with simulate(62) as net:
        node = net.node()
        await node.start()
        for peers, sync, says in (
            (
                FakePeers(0, []),
                FakeSync(41.2),
                "no peer has answered yet; if none does, this node goes on by itself in 42 s",
            ),
            (FakePeers(0, []), FakeSync(None), NOBODY_ANSWERS),
            (FakePeers(1, []), FakeSync(41.2), "the chain is behind that of the peers: 7 anchors"),
            (None, None, "this node runs without a network; --alone mines it all the same"),
        ):
            readiness = ReadinessCheck(
                node.chain, tmp_path, TrioClock(0), synced=Watch(False), peers=peers, sync=sync
            ).check()
            assert says in readiness.checks["synced"]
            # The panel, `mine status` and the page say the same.
            told = waits_for(readiness)
            assert told is not None
            assert told.startswith(says)
    assert waits_for(None) is None
    assert waits_for(Readiness(True, {"synced": "ok: height 3"})) is None


class FailedStore:
    def statistics(self) -> StoreStatistics:
        return StoreStatistics(0, 0, 0, 0, failed=True)


async def test_each_criterion_says_its_number_and_what_it_is_judged_by(tmp_path: Path) -> None:
    async with simulate(62) as net:
        node = net.node()
        await node.start()
        peers = FakePeers(3, [])
        peers.offset_ms = -45_000
        synced = Watch(True)
        readiness = ReadinessCheck(
            node.chain,
            tmp_path,
            TrioClock(net.start_ms),
            synced=synced,
            peers=peers,
            sync=FakeSync(),
            store=FailedStore(),
        )
        found = {criterion.name: criterion for criterion in readiness.check().criteria}
        assert found["synced"].value == 7
        assert (found["peers"].value, found["peers"].limit, found["peers"].met) == (3, 1, True)
        assert (found["clock_offset"].value, found["clock_offset"].met) == (45.0, False)
        assert "45 s apart" in found["clock_offset"].says
        assert found["disk"].unit == "bytes"
        assert found["disk"].value is not None
        assert found["disk"].value > 0
        assert (found["store"].value, found["store"].met) == (1, False)
        assert not readiness.check().ready
        peers.offset_ms = None
        assert readiness.check().checks["clock_offset"] == (
            "ok: not judged, that takes the clocks of 3 outbound peers"
        )


async def test_a_node_whose_only_peer_has_gone_is_ready_where_it_may_be_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with simulate(62) as net:
        node = net.node()
        await node.start()
        lone = (node.chain.network.name,)
        monkeypatch.setattr("unchained.node.rpc.http.readiness.LONE_NETWORKS", lone)
        clock, synced = TrioClock(net.start_ms), Watch(True)
        readiness = ReadinessCheck(
            node.chain, tmp_path, clock, synced=synced, peers=FakePeers(0, [])
        )
        found = readiness.check().checks
        assert found["peers"].startswith("ok: none at present; a node of "), found
