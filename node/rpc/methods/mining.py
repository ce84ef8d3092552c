"""mine.*: work for miners that are not the node's own, and mining on demand."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final, Literal

import msgspec
import trio

from unchained.miner.pool import MiningPool
from unchained.miner.search import search
from unchained.node.base.fanout import Watch
from unchained.node.base.randomness import SYSTEM
from unchained.node.base.runner import Runner, ThreadRunner
from unchained.node.base.user_text import user_text
from unchained.node.chain.results import Held, ProvenCoin
from unchained.node.chain.service import ChainService
from unchained.node.chain.status import ChainStatus
from unchained.node.chain.template import Template
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.crypto.pow import ProofOfWork, compute_mix
from unchained.node.mining.epoch_manager import Payout
from unchained.node.primitives.coin import COIN_SIZE, HEADER_SIZE, NONCE_OFFSET, Coin
from unchained.node.primitives.types import Lock
from unchained.node.rpc.core.errors import (
    BusyError,
    InvalidParamsError,
    NotReadyError,
    ProtocolRuleError,
    RefusedError,
)
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.header import shown_target
from unchained.node.rpc.methods.parameters import Payee, lock_of_payee

TEMPLATES_REMEMBERED: Final = 512
"""Templates whose bodies are still published when an anchor on them is handed in."""

WAIT_S: Final = 50.0
"""How long a call for another template waits before it gives the present one."""

REFRESHES_PER_EPOCH: Final = 20
"""How often in an epoch a waiting call looks for new transfers; new coins wake it at once."""

ON_DEMAND: Final = "reg"
"""The network that mines on demand alone (Protocol §10)."""

NONCES: Final = 2**64

BENCHMARK: Final = "benchmark"
"""Why the node's own workers pause while the proof of work is measured."""


@user_text(
    """Work for a miner: find a nonce for `header`.

    `header` (166 bytes) has a time of its own and the lock of the payee; its last 8 bytes, the
    nonce, hold where to start. A miner may set `lock` and `time` (ms, `min_time` or after) as it
    likes. A coin is a header whose id is at most `target`; hand every one in with mine.submit.
    `id` names the template: pass it as `after` to wait for another. `body_root` stays the same
    for all headers on it. `mem_kib` is the memory of the proof of work. `amount` is what an anchor
    on it mints for itself: the subsidy and a quarter of the pool, its own `fees` among it.
    """
)
class MiningTemplate(msgspec.Struct, frozen=True):
    id: Hash
    header: Hex
    parent: Hash
    height: int
    chain_id: int
    n_total: int
    target: Hash
    anchor_target: Hash
    mem_kib: int
    parent_time: int
    min_time: int
    body_root: Hash
    fresh: int
    uncles: int
    transfers: int
    fees: Amount
    amount: Amount


@user_text(
    """What became of a coin. `held`: its time is ahead of the node's clock, or its parent is
    unknown. `anchor`: it is of anchor grade and its body was published with it, or if it is held
    waits with it."""
)
class SubmittedCoin(msgspec.Struct, frozen=True):
    id: Hash
    status: Literal["accepted", "known", "held"]
    anchor: bool


@user_text("How fast the proof of work of this network is here. `hashrate` in hashes per second.")
class Benchmark(msgspec.Struct, frozen=True):
    backend: str
    mem_kib: int
    threads: int
    seconds: float
    hashes: int
    hashrate: float


@user_text("Anchors that were mined on demand, in order, and the tip's height after them.")
class Generated(msgspec.Struct, frozen=True):
    anchors: list[Hash]
    height: int


class MiningRoom:
    """Methods about mining. `pool` is None where the node does not mine itself, `payout` whom it
    mines to; `synced`: whether its chain is level with its peers'."""

    def __init__(
        self,
        chain: ChainService,
        *,
        pool: MiningPool | None,
        payout: Payout | None,
        synced: Watch[bool],
        backend: ProofOfWork,
        runner: Runner,
    ) -> None:
        self._chain = chain
        self._pool = pool
        self._payout = payout
        self._synced = synced
        self._backend = backend
        self._runner = runner
        self._templates: OrderedDict[bytes, Template] = OrderedDict()
        self._latest: tuple[int, Template] | None = None
        self._measuring = False

    @method(
        "mine.template",
        Access.MINE,
        timeout=WAIT_S + 20,
        long_poll=True,
        errors=(InvalidParamsError, NotReadyError),
    )
    @user_text(
        """Return work for a miner that is not the node's own.

        The coin pays `address`, or whom the node's own miner pays. With `after`, the id of the
        template at hand, the call waits until there is another one, 50 s at most: poll with it to
        learn of a new tip, coins and transfers at once. There is none while the node is behind its
        peers: what is mined on an old tip is of no use.
        """
    )
    async def template(
        self, address: Payee | None = None, after: Hash | None = None
    ) -> MiningTemplate:
        self._check_level()
        lock = None if address is None else lock_of_payee(address, self._chain.network)
        if lock is None and self._payout is None:
            raise InvalidParamsError("this node mines to nobody: name an address")
        seen, template = await self._present()
        if after == template.body_root:
            with trio.move_on_after(WAIT_S):
                template = await self._another(seen, template)
        # The node may have fallen behind meanwhile, and the template be one of an old tip.
        self._check_level()
        self._remember(template)
        time_ms = self._chain.job_time(template)
        if lock is None:
            assert self._payout is not None, "seen to above"
            lock = self._payout.lock_for(template.parent, time_ms)
        # Miners that were given the same header all the same shall not search the same nonces.
        header = template.header(lock=lock, time=time_ms, nonce=SYSTEM.below(2**64))
        network = self._chain.network
        return MiningTemplate(
            Hash(template.body_root),
            Hex(header.to_bytes()),
            Hash(template.parent),
            template.height,
            template.chain_id,
            template.n_total,
            shown_target(template.target),
            shown_target(network.grade_target(template.target)),
            network.mem_kib,
            template.parent_time,
            template.least_time,
            Hash(template.body_root),
            len(template.body.fresh),
            len(template.body.uncles),
            len(template.body.transfers),
            Amount(template.fees),
            Amount(template.value),
        )

    def _check_level(self) -> None:
        """Raise `NotReadyError` where what is mined on this node's tip is of no use."""
        if not self._synced.value:
            raise NotReadyError(
                "the chain is behind that of the peers, or none of them has answered yet: there is "
                "nothing to mine on"
            )
        self._check_clock()

    def _check_clock(self) -> None:
        # Protocol §6: a node whose clock is behind its tip "neither chooses nor mines"
        if self._chain.status.value.clock_behind_ms:
            raise NotReadyError("the clock is behind the chain: set it, or see chain.set_aside")

    async def _present(self) -> tuple[ChainStatus, Template]:
        """Return the present template, built once for all who ask between two events, and the
        status before it was built: what comes while it is built may not be on it."""
        seen = self._chain.status.value
        if self._latest is None or self._latest[0] != seen.next_event:
            self._latest = (seen.next_event, await self._chain.template())
        return seen, self._latest[1]

    async def _another(self, seen: ChainStatus, known: Template) -> Template:
        """Return the first template that differs from a known one, which was built after `seen`."""
        refresh_s = self._chain.network.epoch_ms / 1000 / REFRESHES_PER_EPOCH
        while True:
            with trio.move_on_after(refresh_s):
                await self._chain.status.wait_for(partial(_has_coins, seen=seen))
            seen, template = await self._present()
            if template.body_root != known.body_root:
                return template

    def _remember(self, template: Template) -> None:
        self._templates[template.body_root] = template
        self._templates.move_to_end(template.body_root)
        while len(self._templates) > TEMPLATES_REMEMBERED:
            self._templates.popitem(last=False)

    @method("mine.submit", Access.MINE, errors=(ProtocolRuleError, InvalidParamsError))
    @user_text(
        """Hand in a coin that was mined elsewhere.

        One of anchor grade on a template of this node becomes an anchor with that template's
        body. Refused with the rule that it breaks (Protocol §3.3, §5).
        """
    )
    async def submit(
        self,
        raw: Annotated[Hex, msgspec.Meta(description="198 bytes: header, then mix")],
    ) -> SubmittedCoin:
        if len(raw) != COIN_SIZE:
            raise InvalidParamsError(f"a coin has {COIN_SIZE} bytes, not {len(raw)}")
        mined = Coin.from_bytes(bytes(raw))
        template = None
        if is_anchor_grade(mined, self._chain.network):
            template = self._templates.get(mined.header.body_root)
        outcome = await self._chain.submit_mined(mined, template)
        became: Literal["accepted", "known", "held"]
        became = "held" if isinstance(outcome, Held) else outcome.value
        return SubmittedCoin(Hash(mined.id), became, template is not None)

    @method("mine.benchmark", Access.FULL, timeout=90, errors=(BusyError,))
    @user_text("Measure the proof of work of this network; the node's own workers pause meanwhile.")
    async def benchmark(
        self,
        seconds: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 3.0,
        threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1,
    ) -> Benchmark:
        if self._measuring:
            raise BusyError("a benchmark is under way", retry_after=int(seconds) + 1)
        self._measuring = True
        counts: list[int] = []
        # Threads of its own: those of RPC go on reading meanwhile.
        hashing = ThreadRunner(threads)

        async def run() -> None:
            counts.append(await hashing.run(self._hash_for, seconds))

        try:
            if self._pool is not None:
                self._pool.pause(BENCHMARK)
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(threads):
                    nursery.start_soon(run)
            took = time.perf_counter() - began
        finally:
            self._measuring = False
            if self._pool is not None:
                self._pool.resume(BENCHMARK)
        hashes = sum(counts)
        mem_kib = self._chain.network.mem_kib
        return Benchmark(self._backend.name, mem_kib, threads, took, hashes, hashes / took)

    def _hash_for(self, seconds: float) -> int:
        end = time.perf_counter() + seconds
        hashes = 0
        while time.perf_counter() < end:
            header = hashes.to_bytes(HEADER_SIZE, "big")
            compute_mix(self._backend, header, self._chain.network.mem_kib)
            hashes += 1
        return hashes

    @method(
        "mine.generate",
        Access.FULL,
        timeout=600,
        errors=(RefusedError, InvalidParamsError, NotReadyError),
    )
    @user_text(
        """Mine so many anchors at once, on the network `reg` alone.

        The coins pay `address`, or whom the node's own miner pays. Given up in between, the
        anchors so far stay.
        """
    )
    async def generate(
        self,
        anchors: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1,
        address: Payee | None = None,
        coins: Annotated[
            int, msgspec.Meta(ge=0, le=64, description="fresh coins mined before each anchor")
        ] = 0,
    ) -> Generated:
        network = self._chain.network
        if network.name != ON_DEMAND:
            raise RefusedError(f"anchors are mined on demand on reg alone, this is {network.name}")
        lock = None if address is None else lock_of_payee(address, network)
        if lock is None and self._payout is None:
            raise InvalidParamsError("this node mines to nobody: name an address")
        found = []
        for _ in range(anchors):
            if coins:
                await self._mine(lock, coins, as_anchors=False)
            (anchor,) = await self._mine(lock, 1, as_anchors=True)
            found.append(Hash(anchor.id))
        return Generated(found, self._chain.status.value.height)

    async def _mine(self, lock: Lock | None, count: int, *, as_anchors: bool) -> list[Coin]:
        """Mine coins on the tip: anchors, or such as are none."""
        self._check_clock()
        template = await self._chain.template()
        headers = [self._header(template, lock) for _ in range(count)]
        mined = await self._runner.run(self._search_all, headers, template.target, as_anchors)
        for coin in mined:
            await self._chain.submit_mined(ProvenCoin(coin), template)
        return mined

    def _header(self, template: Template, lock: Lock | None) -> bytes:
        time_ms = self._chain.job_time(template)
        if lock is None:
            assert self._payout is not None, "seen to by the caller"
            lock = self._payout.lock_for(template.parent, time_ms)
        return template.header(lock=lock, time=time_ms).to_bytes()

    def _search_all(self, headers: Sequence[bytes], target: int, as_anchors: bool) -> list[Coin]:
        return [self._search(header[:NONCE_OFFSET], target, as_anchors) for header in headers]

    def _search(self, prefix: bytes, target: int, as_anchor: bool) -> Coin:
        network = self._chain.network
        wanted = network.grade_target(target) if as_anchor else target
        first = SYSTEM.below(2**63)
        while True:
            nonces = range(first, NONCES)
            found = search(self._backend, prefix, wanted, network.mem_kib, nonces, lambda: False)
            assert found is not None, "on reg one hash in four is a coin"
            coin = Coin.from_bytes(found.header + found.mix)
            if as_anchor or not is_anchor_grade(coin, network):
                return coin
            first = coin.header.nonce + 1


def _has_coins(new: ChainStatus, seen: ChainStatus) -> bool:
    """Return whether there is another tip or another coin than was seen."""
    return (new.tip, new.coins) != (seen.tip, seen.coins)
