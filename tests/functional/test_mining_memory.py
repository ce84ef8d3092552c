"""Mining takes the same memory however long it lasts."""

from __future__ import annotations

import psutil
import pytest

from tests.framework.processes import NodeHome, NodeProcess

WARM_COINS = 8
MORE_COINS = 16
NODE_MAY_GROW = 6 * 1024 * 1024
"""Bytes: anchors and coins that are kept by design, and what the allocator has not given back."""
WORKER_MAY_GROW = 512 * 1024


def memory(process: psutil.Process) -> int:
    """Bytes that the process has to itself."""
    return int(process.memory_full_info().uss)


def start(home: NodeHome) -> NodeProcess:
    return home.start("--network", "local", "--workers", "2", "--no-rpc")


@pytest.mark.slow
def test_a_mining_node_and_its_workers_do_not_grow(home: NodeHome) -> None:
    node = start(home)
    node.wait_events(WARM_COINS, "coin.found", timeout_s=300)
    process = psutil.Process(node.pid)
    workers = process.children()
    assert len(workers) == 2
    before = [memory(worker) for worker in workers]
    node_before = memory(process)
    node.wait_events(WARM_COINS + MORE_COINS, "coin.found", timeout_s=600)
    after = [memory(worker) for worker in workers]
    print(f"node {node_before} -> {memory(process)}, workers {before} -> {after}")
    assert memory(process) - node_before < NODE_MAY_GROW
    for had, has in zip(before, after, strict=True):
        assert has - had < WORKER_MAY_GROW
    assert node.stop() == 0
