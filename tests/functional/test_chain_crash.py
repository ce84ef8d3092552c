"""A chain whose process is killed at any instant opens again, with all that it had acknowledged.

The writer is a forked process that is given the same tree again and again, in an order of its own;
after each kill another process opens what is left and checks it. They are forks of a new process:
LevelDB compacts in a thread, which no fork of a process that has opened a store has any more, so
that its compactions would be waited for without an end.
"""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from tests.framework.chains import Feeder, assert_state, nearly_as_made, open_core, replay_events
from tests.framework.forge import Forge
from tests.framework.model import Known, Model
from tests.framework.trees import RandomTree
from unchained.node.consensus.params import REG
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.storage import schema
from unchained.storage.leveldb import LevelStore

KILLS = 200
STEPS = 120
"""Acknowledged steps after which a writer is killed at most."""
LONGEST_S = 0.003
"""Seconds after the last of these: within the next steps, on any machine."""
PATIENCE_S = 30.0
NETWORK = msgspec.structs.replace(REG, max_reorg=20, window=4)
ACKNOWLEDGED = struct.Struct(">Q32s")
"""Number of the next event, and the tip."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
]


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Return the process id of a fork that does the work with the end of a pipe, and the other
    end. The fork exits with 0 if the work raised nothing."""
    end, start = os.pipe()
    process = os.fork()
    if not process:
        _work_and_exit(work, start)
    os.close(start)
    return process, end


def _work_and_exit(work: Callable[[int], None], pipe: int) -> NoReturn:
    try:
        work(pipe)
    except BaseException:  # noqa: BLE001 - the other side prints it
        os.write(pipe, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


def grow(path: Path, tree: RandomTree, seed: int, pipe: int) -> None:
    """Submit the tree in a random order; acknowledge each step once it is written."""
    ran = 0

    def running_ms() -> int:
        nonlocal ran
        ran += 100
        return ran

    core = open_core(LevelStore(path, create=True), NETWORK, running_ms)

    def acknowledge() -> None:
        assert not len(core.ledger.batch)
        os.write(pipe, ACKNOWLEDGED.pack(core.ledger.next_event, core.tip.id))

    acknowledge()
    rng = random.Random(seed)
    while True:
        order = nearly_as_made(tree, rng)
        Feeder(core, tree.forge.now_ms).submit_all(order, acknowledge)


def check(path: Path, tree: RandomTree, acknowledged: tuple[int, bytes], _pipe: int) -> None:
    """Open what is left and compare it with the chain that its own anchors make."""
    store = LevelStore(path)
    next_event = schema.meta_number(store, schema.META_NEXT_EVENT)
    assert next_event is not None
    assert next_event >= acknowledged[0], "an acknowledged write is gone"
    core = open_core(store, NETWORK)
    main, coins, waiting = replay_events(store, tree.forge.genesis.id)
    assert main[-1] == core.tip.id
    assert {entry.wid for entry in core.mempool} == waiting
    for node in core.tree.nodes.values():
        assert set(node.bound) <= coins
    # the main chain alone, from nothing
    known = tree.known()
    bodies: dict[bytes, Body] = {i: known.bodies[i] for i in main}
    listed: dict[bytes, Coin] = {coin.id: coin for coin in known.coins}
    chain_only = Known(
        known.genesis,
        [listed[i] for i in main[1:]]
        + [listed[i] for body in bodies.values() for i in (*body.fresh, *body.uncles)],
        bodies,
        known.transfers,
    )
    model = Model(NETWORK, chain_only)
    assert model.tip.id == core.tip.id
    assert_state(core, model.state)
    store.close()


def read_steps(end: int, steps: int) -> bytes:
    """Return what a writer acknowledges up to so many steps, or up to its failure."""
    data = b""
    while len(data) < steps * ACKNOWLEDGED.size:
        assert select.select([end], [], [], PATIENCE_S)[0], "nothing was acknowledged"
        part = os.read(end, 1 << 16)
        if not part:
            break
        data += part
    return data


def read_all(end: int) -> bytes:
    data = b""
    while part := os.read(end, 1 << 16):
        data += part
    os.close(end)
    return data


def kill_again_and_again(directory: Path, seed: int) -> list[int]:
    """Return the number of the next event as the writer of each kill last acknowledged it."""
    rng = random.Random(seed)
    tree = RandomTree(Forge(NETWORK), rng, broken=0.08, depth=4)
    tree.grow(60)
    ends = []
    path = directory / "0"
    for kill in range(KILLS):
        if kill % 3 == 0:
            path = directory / str(kill)
        process, end = in_child(partial(grow, path, tree, rng.randrange(2**32)))
        data = read_steps(end, 1 + rng.randrange(STEPS))
        time.sleep(rng.uniform(0, LONGEST_S))  # the instant is what the test varies
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        data += read_all(end)
        whole = len(data) // ACKNOWLEDGED.size * ACKNOWLEDGED.size
        last = ACKNOWLEDGED.unpack(data[whole - ACKNOWLEDGED.size : whole])
        ends.append(last[0])
        checker, end = in_child(partial(check, path, tree, last))
        complaint = read_all(end).decode()
        _, status = os.waitpid(checker, 0)
        assert status == 0, f"kill {kill}, store {path}:\n{complaint}"
    return ends


def test_a_chain_survives_being_killed(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        ends = process.submit(kill_again_and_again, tmp_path, seed).result()
    print(f"killed after {len(set(ends))} different numbers of events, {max(ends)} at most")
    assert 2 * len(set(ends)) > max(ends)
