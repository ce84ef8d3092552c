"""One-input two-output transfers validated and connected per second, on as many cores as there are.

The transfers come in bodies as full as the rules allow, none of them seen before: on a chain of a
few thousand coins, and on one of a million whose inputs are drawn over all of them. The reference
is raw ML-DSA-65 verification of the same signatures, in as many threads.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
import trio

from tests.bench._result import result
from tests.framework.benchchain import SEED, Forger, connect, fill, new_store, open_core
from unchained.node.base.clock import SystemClock
from unchained.node.base.runner import ThreadRunner, ease_switches
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package
from unchained.node.chain.service import ChainService
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import validate_transfer
from unchained.node.crypto.keys import SpendKey, verify_signature
from unchained.node.crypto.pow import default_backend
from unchained.node.primitives.conditions import KeyCondition, lock_of
from unchained.node.primitives.transfer import (
    Input,
    Output,
    Signature,
    SizedTransfer,
    Transfer,
)
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.storage.memory import MemoryStore

BODIES = 4
PER_BODY = 480
"""One such transfer has a size of 8,622 bytes: so many fit into a body of 4 MiB."""
RUNS = 5
GOAL = 4_500.0
POSITIONS = 1_000_000
GOAL_OF_A_MILLION = 4_200.0
FEE = 100_000

KEY = SpendKey.from_seed(b"benchmark".ljust(32, b"."))
CONDITION = KeyCondition(KEY.key_hash).to_bytes()
LOCK = lock_of(CONDITION, ZERO32)


def run() -> list[dict[str, object]]:
    """Connect a few full bodies of transfers nobody has seen, and compare."""
    ease_switches()  # as a node does
    with tempfile.TemporaryDirectory() as directory:
        small, large = Path(directory, "small"), Path(directory, "large")
        preparation, full = _make_chain(small)
        rows = [_row("transfers", small, preparation, full, GOAL)]
        full = _make_large_chain(large)
        rows.append(_row("transfers of a million", large, [], full, GOAL_OF_A_MILLION))
    return rows


def _row(
    name: str, base: Path, preparation: list[Package], full: list[Package], goal: float
) -> dict[str, object]:
    """Measure on copies of a store."""
    signed = [SizedTransfer.from_bytes(raw) for item in full for raw in item.transfers.values()]
    rates, bare = [], []
    for _ in range(RUNS):
        rates.append(trio.run(_rate, base, preparation, full))
        bare.append(_bare_rate(signed))
    return result(
        name,
        "transfers/s",
        rates,
        reference="verify signatures",
        reference_values=bare,
        goal=goal,
        at_least=True,
    )


def _make_large_chain(base: Path) -> list[Package]:
    """Return anchors whose bodies are full of transfers, on a store of a million coins."""
    with contextlib.closing(new_store(base)) as store:
        coins = fill(store, POSITIONS, LOCK)
        store.compact()
    spent = random.Random(SEED).sample(coins, BODIES * PER_BODY)
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy")
        shutil.copytree(base, copy)
        with contextlib.closing(new_store(copy)) as store:
            return _fill_bodies(open_core(store), Forger(), spent)


def _make_chain(base: Path) -> tuple[list[Package], list[Package]]:
    """Return anchors that mint coins, then anchors whose bodies are full of transfers, and make an
    empty store."""
    new_store(base).close()
    core, forger = open_core(MemoryStore()), Forger()
    preparation: list[Package] = []
    coins: list[CoinId] = []
    while len(coins) < BODIES * PER_BODY:
        preparation.append(forger.epoch(core, 60, LOCK))
        coins += [preparation[-1].anchor.id, *preparation[-1].coins]
    preparation.append(forger.epoch(core, 0))
    return preparation, _fill_bodies(core, forger, coins)


def _fill_bodies(core: ChainCore, forger: Forger, coins: list[CoinId]) -> list[Package]:
    """Grow the chain by anchors that spend so many coins each."""
    full = []
    for body in range(BODIES):
        for coin in coins[body * PER_BODY : (body + 1) * PER_BODY]:
            _submit(core, _spend(coin))
        full.append(forger.epoch(core, 0))
        assert len(full[-1].transfers) == PER_BODY
    return full


def _spend(coin: CoinId) -> SizedTransfer:
    half = REG.subsidy // 2
    inputs = (Input(coin, CONDITION, ZERO32),)
    outputs = (Output(half, LOCK, b""), Output(half - FEE, LOCK, b""))
    unsigned = SizedTransfer.of(Transfer(1, REG.chain_id, 0, FEE, inputs, outputs, (), ()))
    signature = Signature(KEY.public_key, KEY.sign(unsigned.sighash))
    return SizedTransfer.of(Transfer(1, REG.chain_id, 0, FEE, inputs, outputs, (signature,), ()))


def _submit(core: ChainCore, sized: SizedTransfer) -> None:
    found = validate_transfer(sized.raw, REG)
    core.transfers.remember(sized.wid, found)
    core.submit_transfer(found.proven(), core.tip.context.time)


async def _rate(base: Path, preparation: list[Package], full: list[Package]) -> float:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "copy")
        shutil.copytree(base, copy)
        store = new_store(copy)
        core = open_core(store)
        core.begin_bulk()
        for package in preparation:
            connect(core, package)
        core.end_bulk()
        chain = await ChainService.open(
            store,
            REG,
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
        proven = [coin for item in full for coin in (item.anchor.id, *item.coins)]
        async with trio.open_nursery() as nursery:
            await nursery.start(chain.run)
            begun = time.perf_counter()
            async with chain.bulk():
                done, error = await chain.submit_chain(full, proven=proven)
            seconds = time.perf_counter() - begun
            assert (done, error) == (len(full), None)
            nursery.cancel_scope.cancel()
        store.close()
    return BODIES * PER_BODY / seconds


def _bare_rate(signed: list[SizedTransfer]) -> float:
    def verify(share: list[SizedTransfer]) -> bool:
        return all(
            verify_signature(one.public_key, sized.sighash, one.signature)
            for sized in share
            for one in sized.transfer.signatures
        )

    threads = os.cpu_count() or 1
    # In shares: one by one, what is measured is how fast a pool hands them over.
    shares = [signed[at::threads] for at in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        begun = time.perf_counter()
        assert all(pool.map(verify, shares))
        return len(signed) / (time.perf_counter() - begun)
