"""Networks of `unchained-node` processes: they sync, fork, part, heal, die, return, and agree."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import psutil
import pytest
import trio

from tests.framework.forge import Forge
from tests.framework.network import Net, NetNode, network, until
from tests.framework.p2p_peer import bare_peer
from tests.framework.processes import Event
from unchained.node.rpc.core.errors import NotFoundError
from unchained.node.transport.libp2p.upload import UPLOAD_BURST_S
from unchained.node.wire import messages as wire

SEED = 4
LONG = 2_000
NODES = 5
KILLS = 10
MOST_AT_ONCE = 500
"""Anchors connected before a kill: a batch of a long sync holds some 240."""
WINDOW = 16
"""Epochs that a coin may be late (Protocol §10, W)."""
DEAD_S = 20.0
"""How long a peer may be silent before it is dropped."""
QUIET = ("--no-mine",)
ONE_OUTBOUND = ("--set", "network.outbound=1")
"""So few that the nodes keep the shape in which they joined: who dialled nobody dials one."""


@pytest.fixture
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    with network(request=request) as made:
        yield made


@pytest.fixture
def cuttable(request: pytest.FixtureRequest) -> Iterator[Net]:
    with network(cuttable=True, request=request) as made:
        yield made


def test_a_node_syncs_a_long_chain_from_another(net: Net) -> None:
    source = net.node(*QUIET)
    tip = source.lay(LONG)
    source.start()
    newcomer = net.node(*QUIET, bootstrap=source)
    newcomer.start()
    assert net.agree() == (LONG, tip)
    for node in (source, newcomer):
        assert node.process.stop() == 0
        assert node.process.errors == []
        net.check(node)


def generate_at_once(nodes: Sequence[NetNode], anchors: int, coins: int) -> None:
    """Let nodes mine side by side, so that they fork."""
    threads = [
        threading.Thread(target=node.generate, args=(anchors, coins), kwargs={"key": key})
        for key, node in enumerate(nodes, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def random_shape(seed: int) -> list[int]:
    """Return for each of five nodes the earlier one that it joins through."""
    randomness = random.Random(seed)
    shape = [0, *(randomness.randrange(number) for number in range(1, NODES))]
    print(f"seed {seed}: {shape}")
    return shape


@pytest.mark.parametrize("seed", [1, 2])
def test_five_nodes_that_mine_against_each_other_agree(net: Net, seed: int) -> None:
    shape = random_shape(seed)
    nodes = net.start(NODES, *QUIET, *ONE_OUTBOUND, joins=lambda number: shape[number])
    net.mingle(nodes)
    generate_at_once(nodes, 6, 2)
    height, _ = net.agree(nodes)
    assert height >= 6
    # What one finds after that is everybody's, without a fork.
    last = nodes[-1].generate(1)[-1]
    assert net.agree(nodes) == (height + 1, last)
    assert sum(node.peers() for node in nodes) <= 2 * NODES


@pytest.mark.slow
def test_five_nodes_whose_miners_race_agree() -> None:
    """On `local`, with worker processes and all; the nodes join in a random shape."""
    with network("local") as net:
        shape = random_shape(SEED)
        nodes = net.start(
            NODES, *ONE_OUTBOUND, "--workers", "1", joins=lambda number: shape[number]
        )
        net.mingle(nodes)
        until(lambda: min(node.tip()[0] for node in nodes) >= 2, "mining", within_s=240)
        for node in nodes:
            node.call("mine.stop")
        height, _ = net.agree(nodes)
        assert height >= 2
        for node in nodes:
            assert node.process.stop() == 0
            assert node.process.errors == []
            net.check(node)


def known_coins(node: NetNode, ids: list[str]) -> list[dict[str, Any]]:
    """Return what a node says of coins, nothing while it does not know them all."""
    try:
        return [node.call("coin.get", coin=coin) for coin in ids]
    except NotFoundError:
        return []


@pytest.mark.parametrize("epochs", [3, 24])
def test_two_halves_of_a_network_become_one_again(cuttable: Net, epochs: int) -> None:
    net = cuttable
    nodes = net.start(NODES, *QUIET)
    net.mingle(nodes, 2)
    fork = net.agree(nodes[:1])[0] + len(nodes[0].generate(2, key=3))
    net.agree(nodes)
    assert net.board is not None
    few, many = nodes[:2], nodes[2:]
    net.board.part(few, many)
    until(lambda: all(node.peers() <= 2 for node in nodes), "apart")
    spent: list[str] = []
    # One side finds fewer coins: its chain is to lose.
    few[0].generate(epochs, 1, key=1)
    many[0].generate(epochs, 3, key=2)
    # One transfer of the losing side waits, another one's anchor is to be undone.
    for node, mined in ((few[0], True), (few[1], False)):
        coin = next(coin["id"] for coin in node.owned(3) if coin["id"] not in spent)
        spent.append(coin)
        transfer = Forge().transfer([(bytes.fromhex(coin), 3)], [(99_900_000, 4)], fee=100_000)
        node.call("transfer.submit", raw=transfer.raw.hex())
        if mined:
            few[0].generate(1, 1, key=1)
    lost = [coin["id"] for coin in few[0].owned(1)]
    assert len(lost) == 2 * (epochs + 1)
    assert net.agree(few)[1] != net.agree(many)[1]

    net.board.heal()
    net.agree(nodes, within_s=90)
    many[0].generate(1, key=2)
    net.agree(nodes)
    few[1].generate(1, key=2)
    height, _ = net.agree(nodes)
    assert height >= fork + epochs + 2
    for node in nodes:
        # Coins of the losing side may come a moment after the winner's chain.
        found = until(partial(known_coins, node, lost), "all coins known")
        included = {coin["id"] for coin in found if coin["status"] == "unspent"}
        # Protocol §5.2: an uncle, and what a stray's parent is to it, at most W epochs late
        assert included == (set(lost) if epochs + 2 <= WINDOW else set())
        kinds = {coin["kind"] for coin in found}
        assert kinds == ({"late", "stray"} if included else {None})
        assert {node.call("coin.get", coin=coin)["status"] for coin in spent} == {"spent"}
        assert not any(event["event"] == "peer.banned" for event in node.process.events)


def is_as_high(event: Event, least: int) -> bool:
    """Return whether an event of the log is about this height or a greater one."""
    height = event["height"]
    assert isinstance(height, int)
    return height >= least


@pytest.mark.slow
def test_a_node_killed_while_it_syncs_goes_on(net: Net) -> None:
    randomness = random.Random(SEED)
    source = net.node(*QUIET)
    tip = source.lay(LONG)
    source.start()
    newcomer = net.node(*QUIET, bootstrap=source)
    reached = 0
    for _ in range(KILLS):
        newcomer.start()
        newcomer.process.wait_event("peer.connected")
        opened = newcomer.process.wait_event("chain.opened")["height"]
        assert isinstance(opened, int)
        # It begins where its last batch ended, not anew.
        assert opened >= reached
        reached = opened
        if opened < LONG - MOST_AT_ONCE:
            higher = opened + randomness.randint(1, MOST_AT_ONCE)
            newcomer.process.wait_event("anchor.connected", partial(is_as_high, least=higher))
        newcomer.kill()
    assert 0 < reached < LONG
    net.check(newcomer)
    newcomer.start()
    assert net.agree() == (LONG, tip)
    assert newcomer.process.stop() == 0
    net.check(newcomer)


@pytest.mark.slow
def test_a_node_killed_while_it_mines_goes_on(net: Net) -> None:
    randomness = random.Random(SEED)
    others = net.start(2, *QUIET)
    miner = net.node(*QUIET, bootstrap=others[0])
    for _ in range(KILLS):
        miner.start()
        miner.process.wait_event("peer.connected")
        mining = threading.Thread(target=give_up, args=(miner,))
        mining.start()
        miner.process.wait_events(randomness.randint(1, 8), "anchor.connected")
        miner.kill()
        mining.join()
        others[1].generate(1)
    miner.start()
    height, _ = net.agree()
    assert height >= KILLS
    miner.generate(1)
    assert net.agree()[0] == height + 1
    assert miner.process.stop() == 0
    net.check(miner)


def give_up(miner: NetNode) -> None:
    """Mine until the node is killed."""
    with pytest.raises(Exception, match=r"(?s).*"):
        miner.generate(1_000, 2, key=2)


@pytest.mark.slow
def test_a_stopped_peer_is_dropped_and_the_others_go_on(net: Net) -> None:
    nodes = net.start(3, *QUIET)
    net.mingle(nodes, 2)
    sleeper, *others = nodes[::-1]
    sleeper.process.send(signal.SIGSTOP)
    generate_at_once(others, 3, 1)
    tip = net.agree(others)
    until(lambda: {node.peers() for node in others} == {1}, "dropped", within_s=DEAD_S)
    sleeper.process.send(signal.SIGCONT)
    until(lambda: {node.peers() for node in nodes} == {2}, "back", within_s=60)
    assert net.agree(nodes) == tip


def test_a_node_finds_its_peers_again_after_a_restart(net: Net) -> None:
    nodes = net.start(3, *QUIET)
    net.mingle(nodes, 2)
    last = nodes[-1]
    assert last.process.stop() == 0
    # Nobody names a peer to join, and whom it joined through is gone.
    last.bootstrap = ""
    assert nodes[0].process.stop() == 0
    nodes[1].generate(2)
    last.start()
    assert net.agree(nodes[1:])[0] == 2


def test_transfers_and_coins_reach_the_mempool_and_the_pool_of_all(net: Net) -> None:
    nodes = net.start(3, *QUIET)
    net.mingle(nodes)
    nodes[0].generate(2)
    net.agree()
    coin = nodes[2].owned()[0]["id"]
    transfer = Forge().transfer([(bytes.fromhex(coin), 1)], [(99_900_000, 2)], fee=100_000)
    nodes[2].call("transfer.submit", raw=transfer.raw.hex())
    for node in nodes:
        until(lambda node=node: node.call("node.status")["mempool_transfers"] == 1, "heard of")
    until(lambda: nodes[0].call("debug.statistics")["network"]["stem"]["held"] == 0, "gossiped")
    anchor = nodes[0].generate(1)[0]
    net.agree()
    assert nodes[1].call("transfer.get", txid=transfer.txid.hex())["anchor"] == anchor
    until(lambda: nodes[2].call("node.status")["mempool_transfers"] == 0, "included")


def test_nothing_is_left_running(net: Net) -> None:
    nodes = net.start(2, *QUIET)
    net.mingle(nodes)
    processes = [psutil.Process(node.process.pid) for node in nodes]
    for node in nodes:
        assert node.process.stop(signal.SIGINT) == 0
        assert node.process.events[-1]["event"] == "node.stopped"
    assert not any(process.is_running() for process in processes)


@pytest.mark.real_time
async def test_answers_go_out_at_the_pace_of_the_settings(net: Net) -> None:
    kib = 16
    node = net.node(*QUIET, "--set", f"network.upload_kib={kib}")
    node.lay(200)
    node.start()
    async with bare_peer(1) as peer:
        victim = await peer.transport.connect(node.full_address)
        request = wire.HeadersRequest((peer.genesis,), wire.OWN_TIP)
        began = trio.current_time()
        headers = await peer.ask(victim, wire.HEADERS_EXCHANGE, request)
        took = trio.current_time() - began
        assert len(headers) == 200
        least = len(wire.HEADERS_EXCHANGE.answer(headers)) / (kib << 10) - UPLOAD_BURST_S
        assert least > 1
        # The clock of the node is another process's.
        assert took >= 0.9 * least
