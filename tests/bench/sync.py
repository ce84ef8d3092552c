"""Anchors per second that a new node takes from another: proofs assumed valid, and all verified.

Two processes. On local an anchor lists one coin, and a proof takes 1 MiB. On test, whose proofs
take the 16 MiB of the main network's, an anchor lists what it does there on average. Proofs are
forged, and cost what real ones do (`tests.bench._costly`). The reference of what is verified is
what all cores do that verify the same proofs and nothing else.
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
from unchained.node.chain.results import Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.template import Template, build_template
from unchained.node.consensus.params import LOCAL, TEST, Network
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.coin import HEADER_SIZE, Coin
from unchained.node.primitives.types import Lock
from unchained.storage.open import open_store

ANCHORS = 3_000
STEP_MS = 12_000
"""Time of an epoch of local: longer than the protocol's, so that coins soon are easy to find."""
TEST_ANCHORS = 1_000
"""Two pages of headers: a sync as long ones are, of which reading headers first is a small part."""
TEST_STEP_MS = 72_000
RUNS = 3
PATIENCE_S = 500.0
GOAL_ASSUMED = 800.0
GOAL_SHARE = 0.95
LOCK = Lock(b"sync".ljust(32, b"."))


def run() -> list[dict[str, object]]:
    """Make each chain once, and take it in anew for each run."""
    with network("local") as net:
        source = net.node("--no-mine")
        tip, coins = lay(source, ANCHORS)
        source.start()
        mixes = keep_mixes(net, coins)
        trusting = ("--set", f"network.assume_valid={tip.id.hex()}")
        assumed = [sync_rate(net, source, mixes, ANCHORS, *trusting) for _ in range(RUNS)]
        verified, whole = verified_rate("sync_verified", net, source, mixes, coins, LOCAL)
    with network("test") as net:
        source = net.node("--no-mine")
        fresh = TEST.coins_per_epoch - 1
        _, coins = lay(source, TEST_ANCHORS, TEST, fresh=fresh, step_ms=TEST_STEP_MS)
        source.start()
        mixes = keep_mixes(net, coins)
        _, large = verified_rate("sync_verified_16mib", net, source, mixes, coins, TEST)
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
        whole,
        large,
    ]


def verified_rate(
    name: str, net: Net, source: NetNode, mixes: Path, coins: list[Coin], rules: Network
) -> tuple[list[float], dict[str, object]]:
    """Return the rates at which a newcomer takes in a chain that it verifies, and the result."""
    anchors = coins[-1].height
    verified, bare = [], []
    for _ in range(RUNS):
        bare.append(proof_rate(coins, rules.mem_kib) * anchors / len(coins))
        verified.append(sync_rate(net, source, mixes, anchors))
    found = result(
        name,
        "anchors/s",
        verified,
        reference="proofs alone, all cores",
        reference_values=bare,
        goal=GOAL_SHARE,
        at_least=True,
    )
    share = found["ratio"]
    assert isinstance(share, float)
    goal = {"goal": f"{GOAL_SHARE:g} of the reference", "met": share >= GOAL_SHARE}
    return verified, {**found, **goal}


def lay(
    node: NetNode,
    anchors: int,
    rules: Network = LOCAL,
    *,
    fresh: int = 1,
    step_ms: int = STEP_MS,
) -> tuple[Coin, list[Coin]]:
    """Give a node, before it starts, a chain whose anchors list so many coins; return the tip and
    all that was minted."""
    forger = Forger(rules)
    made: list[Coin] = []
    with contextlib.closing(open_store(node.data_dir, rules, create=True)) as store:
        core = ChainCore(store, rules, lambda: 0, 2**62)
        core.begin_bulk()
        for _ in range(anchors):
            for left in range(fresh, -1, -1):
                template = build_template(core, core.tip.context.time)
                coin = forge(forger, template, rules, anchor=not left, step_ms=step_ms)
                core.submit_proven_coin(ProvenCoin(coin), coin.header.time)
                made.append(coin)
            core.submit_proven_anchor(ProvenAnchor(Package(coin, template.body, {}, {})))
        core.end_bulk()
        assert core.tip.id == made[-1].id
        assert core.tip.height == anchors
    return made[-1], made


def forge(
    forger: Forger, template: Template, rules: Network, *, anchor: bool, step_ms: int
) -> Coin:
    """Return a coin on a template, of anchor grade or not."""
    grade = rules.grade_target(template.target)

    def wanted(value: int) -> bool:
        return value <= grade if anchor else grade < value <= template.target

    return forger.coin(template, lock=LOCK, wanted=wanted, step_ms=step_ms)


def keep_mixes(net: Net, coins: list[Coin]) -> Path:
    """Write down what a newcomer shall take for the proofs of forged coins."""
    mixes = net.home.path / "mixes"
    mixes.write_bytes(b"".join(coin.raw for coin in coins))
    return mixes


def newcomer(net: Net, mixes: Path, *flags: str) -> tuple[NodeProcess, Path]:
    """Start a node; return its process and its data directory."""
    directory = net.node(*flags).data_dir
    process = net.home.start(
        *("-m", "tests.bench._costly", str(mixes), "start", "--json", "--network", net.network),
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


def proof_rate(coins: list[Coin], mem_kib: int) -> float:
    """Return how many proofs per second all cores verify that do nothing else."""
    threads = len(os.sched_getaffinity(0))
    headers = [coin.raw[:HEADER_SIZE] for coin in coins]
    backend = default_backend()

    def verify(share: list[bytes]) -> None:
        for header in share:
            compute_mix(backend, header, mem_kib)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(verify, [headers[at::threads] for at in range(threads)]))
    return len(coins) / (time.perf_counter() - began)
