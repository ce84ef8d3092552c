"""Milliseconds from an anchor being found to its being connected, on disk and synced.

What the epoch manager does with a solution: the coin is verified once more and taken in, then its
body. The reference is one hash of the same memory and one synced write.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import msgspec
import structlog
import trio

from tests.bench._result import result
from tests.framework.benchchain import new_store
from unchained.node.base.clock import SystemClock
from unchained.node.base.runner import ThreadRunner
from unchained.node.chain.results import Package
from unchained.node.chain.service import ChainService
from unchained.node.chain.template import Template
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.consensus.params import LOCAL
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import Lock
from unchained.storage.kv import Batch, KeyValueStore

NETWORK = msgspec.structs.replace(LOCAL, target0=2**254, max_target=2**254, tau_ms=0)
"""The local network, with an anchor in sixteen hashes."""

RUNS = 60
GOAL_MS = 20.0


def run() -> list[dict[str, object]]:
    """Find and seal anchors one after the other."""
    latencies, bare = trio.run(_measure)
    return [
        result(
            "seal_latency",
            "ms",
            latencies,
            reference="one hash, one synced write",
            reference_values=bare,
            goal=GOAL_MS,
            at_least=False,
        )
    ]


async def _measure() -> tuple[list[float], list[float]]:
    latencies, bare = [], []
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as directory:
        store = new_store(Path(directory), NETWORK)
        chain = await ChainService.open(
            store,
            NETWORK,
            clock=SystemClock(),
            writer=ThreadRunner(1),
            verifier=ThreadRunner(cores),
            verifiers=cores,
            backend=default_backend(),
            log=structlog.wrap_logger(
                structlog.ReturnLogger(),
                wrapper_class=structlog.make_filtering_bound_logger("critical"),
            ),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(chain.run)
            for _ in range(RUNS):
                template = await chain.template()
                anchor = _mine(template)
                begun = time.perf_counter()
                await chain.submit_coin(anchor)
                await chain.submit_package(Package(anchor, template.body, {}, {}))
                latencies.append((time.perf_counter() - begun) * 1000)
                assert chain.status.value.tip == anchor.id
                bare.append(_bare(anchor, store))
            nursery.cancel_scope.cancel()
        store.close()
    return latencies, bare


def _mine(template: Template) -> Coin:
    backend = default_backend()
    for nonce in range(2**32):
        header = template.header(lock=Lock(bytes(32)), time=template.parent_time + 1, nonce=nonce)
        mix = compute_mix(backend, header.to_bytes(), NETWORK.mem_kib)
        coin = Coin.assemble(header, mix)
        if is_anchor_grade(coin, NETWORK):
            return coin
    raise AssertionError("no anchor in 2**32 hashes")


def _bare(coin: Coin, store: KeyValueStore) -> float:
    batch = Batch()
    batch.put(b"~benchmark", coin.raw * 20)
    begun = time.perf_counter()
    compute_mix(default_backend(), coin.raw[:166], NETWORK.mem_kib)
    store.write(batch, sync=True)
    return (time.perf_counter() - begun) * 1000
