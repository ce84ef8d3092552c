"""One-input two-output transfers validated and connected per second, on as many cores as there are.

The transfers come in bodies as full as the rules allow, none of them seen before. The reference is
raw ML-DSA-65 verification of the same signatures, in as many threads.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
import trio

from tests.bench._result import result
from tests.framework.benchchain import Forger, connect, new_store, open_core
from unchained.node.base.clock import SystemClock
from unchained.node.base.runner import ThreadRunner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package
from unchained.node.chain.service import ChainService
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfer_verdict import judge_transfer
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
GOAL = 5_000.0
FEE = 100_000

KEY = SpendKey.from_seed(b"benchmark".ljust(32, b"."))
CONDITION = KeyCondition(KEY.key_hash).to_bytes()
LOCK = lock_of(CONDITION, ZERO32)


def run() -> list[dict[str, object]]:
    """Connect a few full bodies of transfers nobody has seen, and compare."""
    preparation, full = _make_chain()
    signed = [SizedTransfer.from_bytes(raw) for item in full for raw in item.transfers.values()]
    rates, bare = [], []
    for _ in range(RUNS):
        rates.append(trio.run(_rate, preparation, full))
        bare.append(_bare_rate(signed))
    return [
        result(
            "transfers",
            "transfers/s",
            rates,
            reference="verify signatures",
            reference_values=bare,
            goal=GOAL,
            at_least=True,
        )
    ]


def _make_chain() -> tuple[list[Package], list[Package]]:
    """Return anchors that mint coins, then anchors whose bodies are full of transfers."""
    core, forger = open_core(MemoryStore()), Forger()
    preparation: list[Package] = []
    coins: list[CoinId] = []
    while len(coins) < BODIES * PER_BODY:
        preparation.append(forger.epoch(core, 60, LOCK))
        coins += [preparation[-1].anchor.id, *preparation[-1].coins]
    preparation.append(forger.epoch(core, 0))
    full = []
    for body in range(BODIES):
        for coin in coins[body * PER_BODY : (body + 1) * PER_BODY]:
            _submit(core, _spend(coin))
        full.append(forger.epoch(core, 0))
        assert len(full[-1].transfers) == PER_BODY
    return preparation, full


def _spend(coin: CoinId) -> SizedTransfer:
    half = REG.subsidy // 2
    inputs = (Input(coin, CONDITION, ZERO32),)
    outputs = (Output(half, LOCK, b""), Output(half - FEE, LOCK, b""))
    unsigned = SizedTransfer.of(Transfer(1, REG.chain_id, 0, FEE, inputs, outputs, (), ()))
    signature = Signature(KEY.public_key, KEY.sign(unsigned.sighash))
    return SizedTransfer.of(Transfer(1, REG.chain_id, 0, FEE, inputs, outputs, (signature,), ()))


def _submit(core: ChainCore, sized: SizedTransfer) -> None:
    core.verdicts.remember(sized.wid, judge_transfer(sized.raw, REG)[1])
    core.submit_transfer(sized, core.tip.context.time)


async def _rate(preparation: list[Package], full: list[Package]) -> float:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as directory:
        store = new_store(Path(directory))
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
    def verify(sized: SizedTransfer) -> bool:
        signature = sized.transfer.signatures[0]
        return verify_signature(signature.public_key, sized.sighash, signature.signature)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        begun = time.perf_counter()
        assert all(pool.map(verify, signed))
        return len(signed) / (time.perf_counter() - begun)
