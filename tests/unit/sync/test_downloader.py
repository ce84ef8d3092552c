"""What a downloader takes of a peer before anything is proven, and what of it is proven."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, TypeVar, TypeVarTuple, cast

import msgspec
import pytest
import structlog
import trio

from tests.framework.forge import BACKEND, Forge, Forged
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.proof_places import PROOFS_PER_PEER
from unchained.node.chain.results import BatchOutcome, Package, ProvenAnchor
from unchained.node.chain.service import ChainService
from unchained.node.chain.verifier import PROOFS_AT_ONCE_MAX
from unchained.node.consensus.errors import BadMixError, FreshWrongParentError
from unchained.node.consensus.params import REG
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.penalty import Penalty
from unchained.node.relay.fetcher import Anchors, NotServedByPeerError
from unchained.node.sync import downloader
from unchained.node.sync.downloader import Downloader
from unchained.node.sync.proof_sample import HeaderProofs
from unchained.node.transport.contract import PeerId
from unchained.storage.memory import MemoryStore

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PEER = PeerId("peer")
OTHER = PeerId("other")
IN_WORK = PROOFS_PER_PEER * PROOFS_AT_ONCE_MAX
"""Proofs of one peer that are begun before one of them is found to be forged."""


class Backend:
    """Counts proofs."""

    name = "counting"

    def __init__(self) -> None:
        self.proofs = 0

    def argon2id(self, password: bytes, salt: bytes, **how: Any) -> bytes:
        self.proofs += 1
        return BACKEND.argon2id(password, salt, **how)


class Gate:
    """Runs proofs and signatures only while it is open."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.opened.set()

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        await self.opened.wait()
        await trio.lowlevel.checkpoint()
        return work(*args)


class Bench:
    """A downloader, and peers that all have the same anchors."""

    def __init__(self, chain: ChainService, backend: Backend, gate: Gate) -> None:
        self.chain = chain
        self.backend = backend
        self.gate = gate
        self.reputation = self
        self.peers = [PEER]
        self.penalties: list[tuple[PeerId, Penalty, str]] = []
        self.served: list[tuple[PeerId, int]] = []
        self._packages: dict[bytes, Package] = {}
        parts = cast("Any", self)
        proofs = HeaderProofs(chain, random.Random(1))
        self.downloader = Downloader(chain, parts, parts, proofs, log=structlog.get_logger())

    def greeted(self) -> list[PeerId]:
        return self.peers

    def status_of(self, _peer: PeerId) -> object:
        return SimpleNamespace(height=1 << 30)

    def penalize(self, peer: PeerId, penalty: Penalty, why: str, *, ms: float = 0.0) -> None:
        self.penalties.append((peer, penalty, why))

    async def packages(self, peer: PeerId, anchors: Anchors, **_: object) -> list[Package]:
        await trio.lowlevel.checkpoint()
        self.served += [(peer, coin.height) for coin, _ in anchors]
        return [self._packages[coin.id] for coin, _ in anchors]

    async def fetch(self, *chain: Forged | Package) -> None:
        packages = [it.package() if isinstance(it, Forged) else it for it in chain]
        self._packages = {package.anchor.id: package for package in packages}
        headers = [(it.anchor, AnchorHeader.of(it.anchor, it.body)) for it in packages]
        await self.downloader.fetch(PEER, headers)


@asynccontextmanager
async def working(forge: Forge) -> AsyncIterator[Bench]:
    backend, gate = Backend(), Gate()
    chain = await ChainService.open(
        MemoryStore(),
        REG,
        clock=TrioClock(forge.now_ms),
        writer=InlineRunner(),
        verifier=gate,
        verifiers=8,
        backend=cast("Any", backend),
        log=structlog.wrap_logger(
            structlog.ReturnLogger(),
            wrapper_class=structlog.make_filtering_bound_logger("critical"),
        ),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        yield Bench(chain, backend, gate)
        nursery.cancel_scope.cancel()


@pytest.fixture
def forge() -> Forge:
    return Forge()


def grown(forge: Forge, count: int, coins: int = 2) -> list[Forged]:
    chain = [forge.genesis]
    for _ in range(count):
        chain.append(forge.anchor(chain[-1], [forge.coin(chain[-1]) for _ in range(coins)]))
    return chain[1:]


async def test_each_proof_of_a_sound_chain_is_verified_once(forge: Forge) -> None:
    anchors = grown(forge, 20)
    async with working(forge) as bench:
        await bench.fetch(*anchors)
        assert bench.chain.status.value.tip == anchors[-1].id
        assert bench.backend.proofs == 3 * len(anchors)
        assert bench.penalties == []


@pytest.mark.parametrize("count", [1, 16])
async def test_no_body_is_asked_for_before_few_headers_are_proven(forge: Forge, count: int) -> None:
    anchors: list[Forged] = grown(forge, count - 1)
    parent = anchors[-1] if anchors else forge.genesis
    forged = forge.forged_mix(parent, grade=True)
    anchors.append(forge.adopt(parent, forged, forge.body(parent)))
    async with working(forge) as bench:
        with pytest.raises(BadMixError):
            await bench.fetch(*anchors)
        assert bench.served == []
        assert bench.backend.proofs <= count


def of_easy_coins(forge: Forge, parent: Forged, count: int) -> Forged:
    """Return an anchor that lists coins of another place, whose proofs are right and cost nothing:
    they serve again and again."""
    header = msgspec.structs.replace(forge.header(parent), parent=bytes(32), target=2**256 - 1)
    return forge.anchor(parent, [forge.mine(header) for _ in range(count)])


async def test_coins_that_are_out_of_place_are_not_proven(forge: Forge) -> None:
    sound = grown(forge, 3)
    broken = of_easy_coins(forge, sound[-1], 60)
    beyond = [of_easy_coins(forge, broken, 60)]
    beyond.append(of_easy_coins(forge, beyond[0], 60))
    async with working(forge) as bench:
        with pytest.raises(FreshWrongParentError):
            await bench.fetch(*sound, broken, *beyond)
        # What comes before it is connected, and it is known to be invalid from then on.
        assert bench.chain.status.value.tip == sound[-1].id
        (standing,) = (await bench.chain.queries.header_page(None, [broken.id]))[1]
        assert standing == "invalid"
        # Three headers more, and that of the broken one again, which goes the ordinary way.
        assert bench.backend.proofs == 3 * len(sound) + 3 + 1


async def test_a_forged_coin_ends_the_work_for_who_gave_it(forge: Forge) -> None:
    parent, anchors = forge.genesis, []
    for _ in range(12):
        listed = [forge.coin(parent) for _ in range(15)]
        if not anchors:
            listed = [forge.forged_mix(parent), *listed]
        anchors.append(forge.anchor(parent, listed))
        parent = anchors[-1]
    async with working(forge) as bench:
        with pytest.raises(NotServedByPeerError):
            await bench.fetch(*anchors)
        assert [(peer, penalty) for peer, penalty, _ in bench.penalties] == [(PEER, Penalty.BAN)]
        assert bench.backend.proofs <= len(anchors) + IN_WORK


async def test_no_more_is_asked_for_while_much_waits_to_be_verified(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader, "SYNC_BATCH_ANCHORS", 1)
    anchors = grown(forge, 24, 1)
    async with working(forge) as bench:
        await bench.downloader._proofs.verify(
            PEER, [it.coin for it in anchors], bench.downloader._proofs.sample()
        )
        bench.peers = [PEER, OTHER]
        bench.gate.opened = trio.Event()
        monkeypatch.setattr(downloader, "SYNC_UNVERIFIED_BYTES_MAX", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.fetch, *anchors)
            await trio.sleep(100)
            # One of each that asks at the same moment.
            assert 1 <= len(bench.served) <= 12
            bench.gate.opened.set()
        assert bench.chain.status.value.tip == anchors[-1].id
        # That took long by our own fault.
        assert bench.penalties == []
        assert bench.downloader._backlog.bytes == 0


async def test_a_sync_goes_on_though_all_that_may_be_ahead_came_before_it_was_taken_in(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader, "SYNC_BATCH_ANCHORS", 1)
    monkeypatch.setattr(downloader, "SYNC_BATCHES_AHEAD", 2)
    anchors = grown(forge, 8, 0)
    async with working(forge) as bench:
        submit = bench.chain.submit_batch

        async def slowly(batch: Sequence[ProvenAnchor]) -> BatchOutcome:
            await trio.sleep(1)
            return await submit(batch)

        monkeypatch.setattr(bench.chain, "submit_batch", slowly)
        with trio.fail_after(100):
            await bench.fetch(*anchors)
        assert bench.chain.status.value.tip == anchors[-1].id
