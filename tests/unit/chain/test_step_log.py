"""The story of an anchor, a coin and a transfer, as `unchained-node logs` finds it in the log."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.framework.forge import BACKEND, Forge
from unchained.node.base.clock import SystemClock, TrioClock
from unchained.node.base.logs import Event, Logs, Sink
from unchained.node.base.runner import InlineRunner
from unchained.node.base.spans import span
from unchained.node.chain.results import Held, Outcome
from unchained.node.chain.service import ChainService
from unchained.node.cli.logs import Wanted
from unchained.node.consensus.errors import BadMixError, BadSignatureError
from unchained.node.consensus.params import REG
from unchained.storage.memory import MemoryStore


class Told:
    """A log of every level, and what it tells of one thing."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.logs = Logs([Sink("told", self)], SystemClock(), "debug")

    def write(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    def story(self, **ids: bytes) -> list[dict[str, Any]]:
        """Return what is shown with `--FIELD ID`, by the first digits."""
        wanted = Wanted(0, "", tuple((name, value.hex()[:12]) for name, value in ids.items()))
        return [dict(event) for event in self.events if wanted.admits(dict(event))]


async def test_each_thing_has_its_story_and_who_sent_it_is_in_it() -> None:
    forge, told = Forge(), Told()
    chain = await ChainService.open(
        MemoryStore(),
        REG,
        clock=TrioClock(forge.now_ms),
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=1,
        backend=BACKEND,
        log=told.logs.log,
    )
    first = forge.anchor(forge.genesis)
    fresh = forge.coin(first)
    good = forge.transfer([(first.id, 0)], [(REG.subsidy - 20_000, 1)], fee=20_000)
    second = forge.anchor(first, [fresh], (), [good])
    early = forge.coin(second)
    forged = forge.forged_mix(first)
    flipped = bytearray(good.raw)
    flipped[-40] ^= 1
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        await chain.submit_coin(first.coin)
        await chain.submit_package(first.package())
        with span("peer", "12D3KooSender"):
            with pytest.raises(BadSignatureError):
                await chain.submit_transfer(bytes(flipped))
            with pytest.raises(BadMixError):
                await chain.submit_coin(forged)
        assert await chain.submit_transfer(good.raw) is Outcome.ACCEPTED
        await chain.submit_coin(fresh)
        assert isinstance(await chain.submit_coin(early), Held)
        await chain.submit_coin(second.coin)
        await chain.submit_package(second.package())
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    told.logs.close()

    def names(**ids: bytes) -> list[str]:
        return [event["event"] for event in told.story(**ids)]

    assert names(anchor=second.id) == [
        "coin.held", "coin.accepted", "anchor.counted", "anchor.connected", "coin.accepted",
    ]  # fmt: skip
    assert names(coin=fresh.id) == ["coin.accepted"]
    assert names(coin=early.id) == ["coin.held", "coin.accepted"]
    assert names(transfer=good.wid) == names(transfer=good.txid)
    assert names(transfer=good.wid) == ["transfer.entered", "transfer.left"]
    assert told.story(transfer=good.wid)[-1]["reason"] == "included"
    (refused,) = told.story(coin=forged.id)
    assert (refused["event"], refused["rule"]) == ("coin.rejected", "BAD_MIX")
    assert (refused["peer"], refused["coin"]) == ("12D3KooSender", forged.id.hex())
    sent = [event for event in told.events if event.get("peer") == "12D3KooSender"]
    assert [event["event"] for event in sent] == ["transfer.rejected", "coin.rejected"]
    assert sent[0]["transfer"] == sent[0]["id"]
