"""What simulations look at can fail: each invariant is shown what it has to refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio

from tests.framework.simulation import bounds, invariants
from tests.framework.simulation.acknowledged import Acknowledged
from tests.framework.simulation.faulty_disk import FaultyStore, full
from tests.framework.simulation.invariants import InvariantBrokenError, faulty
from tests.framework.simulation.scenario import QUICK_SIM, Scenario
from tests.framework.simulation.simulated_node import SimulatedNode
from tests.framework.simulation.simulation import Simulation
from unchained.node.base.services import ServiceEndedError
from unchained.node.consensus.genesis import genesis_of
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.errors import StoreError
from unchained.storage.memory import MemoryStore

PAIR = Scenario(name="pair", nodes=2, miners=2, wallets=0, epochs=1, faults=())
MIB = 1 << 20


@asynccontextmanager
async def pair(tmp_path: Path, epochs: float = 0.0) -> AsyncIterator[SimulatedNode]:
    """Run two nodes that have met, and mined for some epochs; yield one of them."""
    simulation = Simulation(PAIR, 1, (), tmp_path)
    first, second = simulation.nodes
    second.bootstrap = (f"/ip4/{first.ip}/tcp/9000/p2p/{first.peer_id}",)
    async with simulation.net.running():
        assert simulation.net.nursery is not None
        for node in simulation.nodes:
            simulation.net.nursery.start_soon(node.keep)
        await simulation._until(simulation._has_mingled, "mingled", 60)
        await trio.sleep(epochs * PAIR.epoch_s)
        yield first
        simulation.net.nursery.cancel_scope.cancel()


def queue_without_bound(node: SimulatedNode) -> None:
    node.chain._writer._send, _ = trio.open_memory_channel[Any](float("inf"))


def orphans(node: SimulatedNode) -> None:
    node.chain._intake._orphans._count = 4_097


def early(node: SimulatedNode) -> None:
    held = cast(dict[Any, Any], node.chain._intake._early._held)
    held.update(dict.fromkeys(range(1_025)))


def mempool(node: SimulatedNode) -> None:
    entries = cast(dict[Any, Any], node.chain._writer._core.mempool._entries)
    entries[b"wid"] = SimpleNamespace(raw_size=65 * MIB)


def verdicts(node: SimulatedNode) -> None:
    cast(dict[Any, Any], node.chain._writer._core.transfers._verdicts).update(
        dict.fromkeys(range(65_537))
    )


def decoded(node: SimulatedNode) -> None:
    proven = cast(dict[Any, Any], node.chain._writer._core.transfers._proven)
    proven[b"wid"] = SimpleNamespace(sized=SimpleNamespace(raw=bytes(9 * MIB)))


def tree(node: SimulatedNode) -> None:
    cast(dict[Any, Any], node.chain._writer._core.tree.nodes).update(dict.fromkeys(range(8_193)))


def seen(node: SimulatedNode) -> None:
    ids = cast(dict[Any, Any], node.transport.switchboard.router._seen._untils)
    ids.update(dict.fromkeys(range(65_537), 0))


def cache(node: SimulatedNode) -> None:
    cached = cast(dict[Any, Any], node.transport.switchboard.router._cache)
    cached[b"mid"] = SimpleNamespace(data=bytes(17 * MIB))


def asked(node: SimulatedNode) -> None:
    ids = cast(dict[Any, Any], node.transport.switchboard.router._asked)
    ids.update(dict.fromkeys(range(513)))


def addresses(node: SimulatedNode) -> None:
    cast(dict[Any, Any], node.network.peers.book._entries).update(dict.fromkeys(range(81_921)))


def stem(node: SimulatedNode) -> None:
    cast(dict[Any, Any], node.network.stem._held).update(dict.fromkeys(range(513)))


def batches(node: SimulatedNode) -> None:
    node.network.sync._downloader.in_flight = 49


def backlog(node: SimulatedNode) -> None:
    end = next(iter(node.transport._ends.values()))
    end.transmit(14 * MIB, lambda: None)


@pytest.mark.parametrize(
    ("grow", "what"),
    [
        (queue_without_bound, "places for operations"),
        (orphans, "4097 orphans"),
        (early, "early coins"),
        (mempool, "bytes in the mempool"),
        (verdicts, "verdicts"),
        (decoded, "bytes of decoded transfers"),
        (tree, "anchors in the tree"),
        (seen, "gossip that has been seen"),
        (cache, "bytes in the gossip cache"),
        (asked, "gossip that was asked for"),
        (addresses, "addresses"),
        (stem, "transfers on the stem"),
        (batches, "batches on their way"),
        (backlog, "bytes on their way to"),
    ],
)
async def test_whatever_a_node_keeps_has_a_bound(
    grow: Callable[[SimulatedNode], None], what: str, tmp_path: Path
) -> None:
    async with pair(tmp_path) as node:
        invariants.check_bounds(node)
        grow(node)
        with pytest.raises(InvariantBrokenError, match=what):
            invariants.check_bounds(node)


async def test_what_a_node_keeps_altogether_is_bounded_by_what_its_network_has(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as node:
        assert bounds.memory_of(node) < bounds.memory_max(0, 0) / 10
        node.chain._intake._orphans._count = 2_000
        with pytest.raises(InvariantBrokenError, match="bytes of memory"):
            invariants.check_bounds(node)


async def test_what_is_held_keeps_to_small_queues_where_they_were_made_with_them(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as node:
        node.chain._intake._orphans._count = 3
        with node.simulation.small_queues.of(2):
            invariants.check_bounds(node)
            node.started_at = trio.current_time()
            with pytest.raises(InvariantBrokenError, match="expected 2 at most"):
                invariants.check_bounds(node)
        invariants.check_bounds(node)


async def test_what_a_node_has_written_is_bounded_and_leads_somewhere(tmp_path: Path) -> None:
    async with pair(tmp_path, 12.0) as node:
        invariants.check_disk(node)
        values = node.disk_under.disk.values
        values[b"more"] = bytes(MIB)
        with pytest.raises(InvariantBrokenError, match="bytes on disk"):
            invariants.check_disk(node)
        del values[b"more"]
        coin = genesis_of(QUICK_SIM).coin
        other = Coin.assemble(msgspec.structs.replace(coin.header, nonce=7), coin.mix)
        values[schema.COIN.key(other.id)] = other.raw
        with pytest.raises(InvariantBrokenError, match="1 candidates are kept below the tree"):
            invariants.check_disk(node)


def forget_events(store: MemoryStore, _tip: CoinId) -> None:
    store._disk.values[schema.META.key(schema.META_NEXT_EVENT)] = schema.encode_number(1)


def change_event(store: MemoryStore, _tip: CoinId) -> None:
    told = [n for n, it in schema.EVENT.scan(store) if isinstance(it, schema.AnchorConnected)]
    del store._disk.values[schema.EVENT.key(told[-1])]


def forget_anchor(store: MemoryStore, tip: CoinId) -> None:
    del store._disk.values[schema.ANCHOR.key(tip)]


def forget_coin(store: MemoryStore, tip: CoinId) -> None:
    del store._disk.values[schema.COIN.key(tip)]


def forget_state(store: MemoryStore, tip: CoinId) -> None:
    height = next(height for height, there in schema.HEIGHT.scan(store) if there == tip)
    del store._disk.values[schema.STATE.key(height)]


def forget_tip(store: MemoryStore, _tip: CoinId) -> None:
    del store._disk.values[schema.META.key(schema.META_TIP)]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (forget_events, "events from 1 on"),
        (change_event, "AnchorConnected"),
        (forget_anchor, "anchor"),
        (forget_coin, "anchor"),
        (forget_state, "the state of its tip"),
        (forget_tip, "its tip"),
    ],
)
async def test_what_was_synced_is_there_after_a_restart(
    damage: Callable[[MemoryStore, CoinId], None], what: str, tmp_path: Path
) -> None:
    async with pair(tmp_path, 12.0) as node:
        node.simulation.mining_paused = True
        await trio.sleep(PAIR.epoch_s)
        assert node.height > 1
        store = FaultyStore(node.disk_under)
        assert node.acknowledged.lost(store, QUICK_SIM.max_reorg) == ""
        damage(store, node.tip)
        assert what in node.acknowledged.lost(store, QUICK_SIM.max_reorg)


async def test_a_chain_that_is_opened_anew_has_the_coin_set_that_it_had(tmp_path: Path) -> None:
    async with pair(tmp_path, 12.0) as node:
        node.simulation.mining_paused = True
        await trio.sleep(PAIR.epoch_s)
        core = node.chain._writer._core
        assert node.acknowledged.differs(core) == ""
        core.ledger.supply += 1
        assert "another state root, supply or pool" in node.acknowledged.differs(core)
        assert Acknowledged().differs(core) == ""


async def test_a_payment_that_was_answered_is_known_after_a_restart(tmp_path: Path) -> None:
    scenario = msgspec.structs.replace(PAIR, wallets=2)
    simulation = Simulation(scenario, 1, (), tmp_path)
    node = simulation.nodes[0]
    async with simulation.net.running():
        assert simulation.net.nursery is not None
        simulation.net.nursery.start_soon(node.keep)
        await simulation._until(lambda: node.is_up, "up", 60)
        node._check_sent()
        node.sent.append(b"txid")
        with simulation._scope:
            node._check_sent()
            await trio.sleep_forever()
        simulation.net.nursery.cancel_scope.cancel()
    assert "has lost payment 74786964" in str(simulation._failure)


@pytest.mark.parametrize(
    ("kind", "failed", "is_explained"),
    [
        ("wallet.not_followed", True, True),
        ("wallet.not_followed", False, False),
        ("node.stop_overdue", True, False),
    ],
)
def test_a_line_is_explained_by_what_befell_the_node_alone(
    kind: str, failed: bool, is_explained: bool, tmp_path: Path
) -> None:
    node = Simulation(PAIR, 1, (), tmp_path).nodes[0]
    node._store = FaultyStore(node.disk_under)
    node.expect(full())
    if failed:
        node.disk_under.at_write(1, full)
        with pytest.raises(StoreError):
            node._store.admit()
    assert node.accounts_for_line(kind) is is_explained


def test_a_service_that_is_cancelled_may_end_once(tmp_path: Path) -> None:
    node = Simulation(PAIR, 1, (), tmp_path).nodes[0]
    first, second = ServiceEndedError("miner"), ServiceEndedError("miner")
    assert not node.accounts_for(first)
    node._cancelled["miner"] += 1
    assert node.accounts_for(first)
    assert node.accounts_for(first), "told twice: by the log, and by who is stopped by it"
    assert not node.accounts_for(second)
    assert not node.accounts_for(ServiceEndedError("epochs"))


def test_faults_of_transfers_are_found_without_the_products_rules() -> None:
    raw = b"\x98" + bytes(4) + b"\x90" * 4
    assert faulty({b"garbage": b"\0", b"empty": raw}, QUICK_SIM) == {
        b"garbage": "NON_CANONICAL",
        b"empty": "BAD_VERSION",
    }


async def test_a_node_is_not_compared_with_the_model_while_its_choice_of_the_tip_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    monkeypatch.setattr(invariants, "check_against_model", lambda name, _: compared.append(name))
    async with pair(tmp_path) as node:
        choice = node.chain._writer.choose_later()
        await invariants.check_under_way(node)
        assert compared == []
        await choice.done.wait()
        await invariants.check_under_way(node)
        assert compared == [node.name]
