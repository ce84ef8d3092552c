"""Coins mined for this node: the body of an anchor goes in with it, at once or once it counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
import pytest
import structlog
import trio
import trio.testing
from structlog.testing import CapturingLogger

from tests.framework.forge import BACKEND, Forge, Forged, key_lock
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain import mined_intake
from unchained.node.chain.held_coins import Sender
from unchained.node.chain.mined_intake import MinedIntake
from unchained.node.chain.results import Held, Outcome, Package, ProvenCoin
from unchained.node.chain.service import ChainService
from unchained.node.chain.template import Template
from unchained.node.consensus.params import REG
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage.memory import MemoryStore

START_MS = REG.birth_ms
LIMIT_MS = REG.future_limit_ms


@pytest.fixture
def forge() -> Forge:
    return Forge()


@asynccontextmanager
async def running(logger: CapturingLogger | None = None) -> AsyncIterator[ChainService]:
    """A chain of genesis alone, whose clock shows genesis's time."""
    log = structlog.wrap_logger(
        logger or CapturingLogger(),
        processors=[],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    chain = await ChainService.open(
        MemoryStore(),
        REG,
        clock=TrioClock(START_MS),
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=1,
        backend=BACKEND,
        log=log,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        yield chain
        nursery.cancel_scope.cancel()


def mine(
    forge: Forge, template: Template, ahead_ms: int, *, grade: bool = True, key: int = 0
) -> Coin:
    """Return a coin on a template, so far ahead of what the clock allows."""
    header = template.header(lock=key_lock(key), time=START_MS + LIMIT_MS + ahead_ms)
    return forge.mine(header, grade=grade)


def has_body(chain: ChainService, anchor: Coin) -> bool:
    """Return whether an anchor's body has passed a moment ago."""
    return chain.recent_body(anchor.id) is not None


async def test_an_anchor_of_this_moment_goes_in_with_its_body(forge: Forge) -> None:
    async with running() as chain:
        anchor = mine(forge, template := await chain.template(), 0)
        assert await chain.submit_mined(anchor, template) is Outcome.ACCEPTED
        assert chain.status.value.tip == anchor.id
        assert chain._mined.held == 0
        assert await chain.submit_mined(ProvenCoin(anchor), template) is Outcome.KNOWN


async def test_the_body_of_an_anchor_that_is_too_new_waits_with_it(forge: Forge) -> None:
    async with running() as chain:
        template = await chain.template()
        anchors = [mine(forge, template, ahead_ms) for ahead_ms in (20_000, 10_000)]
        for anchor in anchors:
            assert await chain.submit_mined(anchor, template) == Held(None)
        assert chain._mined.held == 2
        await trio.sleep(9.9)
        assert chain.status.value.height == 0
        await trio.sleep(0.2)
        assert chain.status.value.tip == anchors[1].id
        assert not has_body(chain, anchors[0])
        await trio.sleep(10)
        assert has_body(chain, anchors[0])
        assert chain._mined.held == 0


async def test_only_an_anchor_on_a_known_template_has_a_body_to_wait_with_it(forge: Forge) -> None:
    async with running() as chain:
        template = await chain.template()
        coin = mine(forge, template, 10_000, grade=False)
        anchor = mine(forge, template, 10_000)
        assert await chain.submit_mined(coin, template) == Held(None)
        assert await chain.submit_mined(anchor, None) == Held(None)
        assert chain._mined.held == 0
        await trio.sleep(11)
        assert chain.status.value.coins == 2
        assert chain.status.value.height == 0


async def test_the_body_waits_with_an_anchor_that_is_stored_but_too_new(forge: Forge) -> None:
    async with running() as chain:
        template = await chain.template()
        anchor = mine(forge, template, 10_000)
        other = forge.anchor(forge.genesis, [anchor], time=START_MS + LIMIT_MS)
        await chain.submit_coin(other.coin)
        await chain.submit_package(other.package())
        assert await chain.submit_mined(anchor, template) == Held(None)
        assert chain._mined.held == 1
        await trio.sleep(11)
        assert has_body(chain, anchor)


async def test_the_body_waits_for_a_parent_that_is_not_known(forge: Forge) -> None:
    async with running() as ahead, running() as chain:
        parent = forge.anchor(forge.genesis)
        await take(ahead, parent)
        template = await ahead.template()
        anchor = mine(forge, template, -1)
        assert await chain.submit_mined(anchor, template) == Held(parent.id)
        await take(chain, parent)
        await chain.status.wait_for(lambda status: status.tip == anchor.id)


async def take(chain: ChainService, anchor: Forged) -> None:
    await chain.submit_coin(anchor.coin)
    await chain.submit_package(anchor.package())


async def test_the_oldest_body_gives_way(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mined_intake, "HELD_BODIES_MAX", 2)
    async with running() as chain:
        template = await chain.template()
        anchors = [mine(forge, template, 10_000, key=key) for key in range(3)]
        for anchor in anchors:
            await chain.submit_mined(anchor, template)
        assert chain._mined.held == 2
        await trio.sleep(11)
        assert [has_body(chain, anchor) for anchor in anchors] == [False, True, True]


async def test_a_body_that_breaks_a_rule_is_told_and_the_next_goes_in(forge: Forge) -> None:
    logger = CapturingLogger()
    async with running(logger) as chain:
        template = await chain.template()
        wrong = msgspec.structs.replace(
            template, body=msgspec.structs.replace(template.body, state_root=bytes(32))
        )
        bad, good = (mine(forge, template, 10_000, key=key) for key in range(2))
        await chain.submit_mined(bad, wrong)
        await chain.submit_mined(good, template)
        await trio.sleep(11)
        assert chain.status.value.tip == good.id
    told = [call.kwargs for call in logger.calls if call.kwargs.get("event") == "coin.rejected"]
    assert [(each["id"], each["rule"]) for each in told] == [(bad.id.hex(), "BAD_BODY_ROOT")]


class HeldFirst:
    """Takes bodies when it is let, and says of every coin that it is held."""

    def __init__(self, chain: ChainService) -> None:
        self._chain = chain
        self.submitted: list[CoinId] = []
        self.may_go_on = trio.Event()

    async def submit_coin(
        self, coin: Coin | ProvenCoin, *, sender: Sender | None = None
    ) -> Outcome | Held:
        await self._chain.submit_coin(coin, sender=sender)
        return Held(None)

    async def submit_package(self, package: Package) -> Outcome:
        self.submitted.append(package.anchor.id)
        await self.may_go_on.wait()
        return Outcome.ACCEPTED

    async def validate_transfers(self, transfers: Mapping[Wid, bytes]) -> None:
        raise AssertionError("nothing is validated here")


async def test_a_coin_that_came_to_count_before_its_body_was_held(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mined_intake, "HELD_BODIES_MAX", 1)
    async with running() as chain, trio.open_nursery() as nursery:
        single = HeldFirst(chain)
        intake = MinedIntake(REG, chain._writer, single, log=structlog.get_logger())
        nursery.start_soon(intake.submit_released)
        template = await chain.template()
        anchors = [mine(forge, template, -1, key=key) for key in range(4)]
        for anchor in anchors[:3]:
            assert await intake.submit(anchor, template) == Held(None)
            await trio.testing.wait_all_tasks_blocked()
        # The first is in hand meanwhile, the second has given way to the third.
        assert single.submitted == [anchors[0].id]
        single.may_go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert single.submitted == [anchors[0].id, anchors[2].id]
        await intake.submit(anchors[3], template)
        await trio.testing.wait_all_tasks_blocked()
        assert single.submitted[2:] == [anchors[3].id]
        assert intake.held == 0
        # What counts and has no body here is passed over.
        intake.note_counted(anchors[3].id)
        await trio.testing.wait_all_tasks_blocked()
        assert len(single.submitted) == 3
        nursery.cancel_scope.cancel()
