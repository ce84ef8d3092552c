"""Anchors per second that a new node takes from another: proofs assumed valid, and all verified.

Two processes on local; an anchor lists one coin. Proofs are forged, and cost what real ones do
(`tests.bench._costly`). The references: 1,000 anchors a second, and what all cores do that verify
the same proofs and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from tests.bench._result import result
from tests.framework.benchchain import Forger
from tests.framework.network import Net, NetNode, network
from tests.framework.processes import NodeProcess
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package
from unchained.node.chain.templates import Template, build_template
from unchained.node.consensus.params import LOCAL
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.coin import HEADER_SIZE, Coin
from unchained.node.primitives.types import Lock
from unchained.storage.open import open_store

ANCHORS = 3_000
STEP_MS = 12_000
"""Time of an epoch: longer than the protocol's, so that coins soon are easy to find."""
RUNS = 3
PATIENCE_S = 500.0
GOAL_ASSUMED = 800.0
GOAL_SHARE = 0.95
LOCK = Lock(b"sync".ljust(32, b"."))


def run(anchors: int = ANCHORS, runs: int = RUNS) -> list[dict[str, object]]:
    """Make a chain once, and take it in anew for each run."""
    assumed, verified, bare = [], [], []
    with network("local") as net:
        source = net.node("--no-mine")
        tip, coins = lay(source, anchors)
        mixes = keep_mixes(net, coins)
        source.start()
        per_anchor = len(coins) / anchors
        for _ in range(runs):
            trusting = ("--set", f"network.assume_valid={tip.id.hex()}")
            assumed.append(sync_rate(net, source, mixes, anchors, *trusting))
            bare.append(proof_rate(coins) / per_anchor)
            verified.append(sync_rate(net, source, mixes, anchors))
    whole = result(
        "sync_verified",
        "anchors/s",
        verified,
        reference="proofs alone, all cores",
        reference_values=bare,
        goal=GOAL_SHARE,
        at_least=True,
    )
    share = whole["ratio"]
    assert isinstance(share, float)
    return [
        result(
            "sync_assumed",
            "anchors/s",
            assumed,
            reference="all proofs verified",
            reference_values=verified,
            goal=GOAL_ASSUMED,
            at_least=True,
        ),
        {**whole, "goal": f"{GOAL_SHARE:g} of the reference", "met": share >= GOAL_SHARE},
    ]


def lay(node: NetNode, anchors: int) -> tuple[Coin, list[Coin]]:
    """Give a node, before it starts, a chain; return the tip and all that was minted."""
    forger = Forger(LOCAL)
    made: list[Coin] = []
    with contextlib.closing(open_store(node.data_dir, LOCAL, create=True)) as store:
        core = ChainCore(store, LOCAL, lambda: 0)
        core.begin_bulk()
        for _ in range(anchors):
            for anchor in (False, True):
                template = build_template(core)
                coin = forge(forger, template, anchor=anchor)
                core.submit_coin(coin, coin.header.time, proven=True)
                made.append(coin)
                if anchor:
                    core.submit_package(Package(coin, template.body, {}, {}), proven=True)
        core.end_bulk()
        assert core.tip.id == made[-1].id
        assert core.tip.height == anchors
    return made[-1], made


def forge(forger: Forger, template: Template, *, anchor: bool) -> Coin:
    """Return a coin on a template, of anchor grade or not."""
    grade = LOCAL.grade_target(template.target)

    def wanted(value: int) -> bool:
        return value <= grade if anchor else grade < value <= template.target

    return forger.coin(template, lock=LOCK, wanted=wanted, step_ms=STEP_MS)


def keep_mixes(net: Net, coins: list[Coin]) -> Path:
    """Write down what a newcomer shall take for the proofs of forged coins."""
    mixes = net.home.path / "mixes"
    mixes.write_bytes(b"".join(coin.raw for coin in coins))
    return mixes


def newcomer(net: Net, mixes: Path, *flags: str) -> tuple[NodeProcess, Path]:
    """Start a node; return its process and its data directory."""
    directory = net.node(*flags).data_dir
    process = net.home.start(
        *("-m", "tests.bench._costly", str(mixes), "start", "--json", "--network", "local"),
        *("--no-mine", "--data-dir", str(directory), *flags),
        *("--rpc-listen", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0"),
        program=[sys.executable],
    )
    return process, directory


def sync_rate(net: Net, source: NetNode, mixes: Path, anchors: int, *flags: str) -> float:
    """Return how many anchors per second a new node takes in, from its first peer to the end."""
    process, _ = newcomer(net, mixes, "--bootstrap", source.address, *flags)
    began = process.wait_event("peer.connected", timeout_s=PATIENCE_S)
    ended = process.wait_event(
        "sync.synced", lambda event: event["height"] == anchors, timeout_s=PATIENCE_S
    )
    assert process.stop() == 0
    passed = datetime.fromisoformat(str(ended["time"])) - datetime.fromisoformat(str(began["time"]))
    return anchors / passed.total_seconds()


def proof_rate(coins: list[Coin]) -> float:
    """Return how many proofs per second all cores verify that do nothing else."""
    threads = len(os.sched_getaffinity(0))
    headers = [coin.raw[:HEADER_SIZE] for coin in coins]

    def verify(share: list[bytes]) -> None:
        for header in share:
            compute_mix(default_backend(), header, LOCAL.mem_kib)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(verify, [headers[at::threads] for at in range(threads)]))
    return len(coins) / (time.perf_counter() - began)
