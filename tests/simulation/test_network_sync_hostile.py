"""Long syncs with a peer among the first who shows headers and does not give them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tests.framework.attacks import Attacker
from tests.framework.simulation.simnet import SimNet, SimNode, simulate, solve
from tests.simulation.test_network_sync import newcomer_of, old_nodes, until_synced
from unchained.node.peers.reputation import Reputation
from unchained.node.primitives.types import CoinId
from unchained.node.relay.header_source import HeaderSource
from unchained.node.sync.header_scan import SCAN_GRACE_S
from unchained.node.sync.long_sync import BROKEN_WORD_PRICE_MS
from unchained.node.transport.contract import PeerId
from unchained.node.wire import messages as wire

ANCHORS = 1_600
PAGE = wire.HEADERS_EXCHANGE.limits.max_items


class Promiser(Attacker):
    """Has the same chain as the others. When chains are compared it shows so many headers, sooner
    than anybody; asked for them again it gives so many of each page."""

    shown = ANCHORS
    given = 0
    rounds = 0
    met: trio.Event
    _is_compared = False

    async def know(self, node: SimNode) -> None:
        """Take over the chain of a node."""

        def read(core: Any) -> list[Any]:
            archive = core.archive
            heights = range(1, core.tip.height + 1)
            return [(archive.main_anchor(at), archive.body(archive.main_id(at))) for at in heights]

        self._chain = await node.core(read)
        listed = [CoinId(i) for _, body in self._chain for i in (*body.fresh, *body.uncles)]
        self.hold(*await node.core(lambda core: [core.archive.coin(i) for i in listed]))
        for anchor, body in self._chain:
            self.hold(anchor, body=body)

    def _headers(self, payload: bytes) -> bytes:
        self.met.set()
        request: Any = wire.HEADERS_EXCHANGE.decode_request(payload)
        places = {coin.id: at + 1 for at, (coin, _) in enumerate(self._chain)}
        start = next((places[CoinId(i)] for i in request.locator if i in places), 0)
        end = start + PAGE
        if request.tip == wire.OWN_TIP:
            if self._is_compared:
                end = start + self.given
                self._is_compared = False
                self.rounds += 1
            else:
                end = max(start, min(end, start + self.shown))
                # That is the end of what it shows.
                self._is_compared = min(end, ANCHORS) - start < PAGE
        page = (wire.AnchorHeader.of(*anchor) for anchor in self._chain[start:end])
        return wire.HEADERS_EXCHANGE.answer(tuple(page))


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float, met: trio.Event) -> None:
    """Have honest nodes take so long for each page of headers, once the promiser has been asked for
    one: it is among those that are compared."""
    prompt = HeaderSource.headers_above

    async def headers_above(self: HeaderSource, *args: Any, **more: Any) -> Any:
        await met.wait()
        await trio.sleep(seconds)
        return await prompt(self, *args, **more)

    monkeypatch.setattr(HeaderSource, "headers_above", headers_above)


class Misleader(Promiser):
    """Asked again for headers that it has shown, it gives one with a wrong target instead."""

    async def know(self, node: SimNode) -> None:
        """Take over the chain of a node, and make the wrong header."""
        await super().know(node)
        anchor, body = self._chain[0]
        header = msgspec.structs.replace(anchor.header, target=anchor.header.target // 2)
        self._wrong = wire.AnchorHeader.of(solve(header, self.net.params, grade=True), body)

    def _headers(self, payload: bytes) -> bytes:
        rounds = self.rounds
        answer = super()._headers(payload)
        return answer if self.rounds == rounds else wire.HEADERS_EXCHANGE.answer((self._wrong,))


async def newcomer_with(net: SimNet, promiser: Promiser) -> SimNode:
    """Return a newcomer that knows three honest nodes and, first, a promiser."""
    nodes = await old_nodes(net, 3, ANCHORS)
    await promiser.know(nodes[0])
    await net.run_transport(promiser.transport)
    newcomer = newcomer_of(net, nodes)
    newcomer.bootstrap = (promiser.transport.address, *newcomer.bootstrap)
    await newcomer.start()
    return newcomer


async def until_whole(net: SimNet, newcomer: SimNode, within_s: float) -> None:
    """Wait until a newcomer has the chain; it mines nothing before."""

    def is_whole() -> bool:
        assert newcomer.height >= ANCHORS or not newcomer.network.synced.value
        return newcomer.height >= ANCHORS

    await net.until(is_whole, "whole", within_s)
    await net.until(lambda: newcomer.network.synced.value, "synced", 30)


def charges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PeerId, float]]:
    """Return a list to which is added who is charged how many milliseconds, by any node. More than
    fifty charges fail: a sync that goes round and round lets no time pass."""
    charged: list[tuple[PeerId, float]] = []
    penalize = Reputation.penalize

    def noted(self: Reputation, peer: PeerId, *args: Any, ms: float = 0.0) -> None:
        charged.append((peer, ms))
        assert len(charged) <= 50, charged
        penalize(self, peer, *args, ms=ms)

    monkeypatch.setattr(Reputation, "penalize", noted)
    return charged


@pytest.mark.parametrize("given", [0, 1, PAGE - 1])
async def test_headers_that_are_shown_and_not_given_stop_no_sync(
    given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = trio.Event()
    slow_down(monkeypatch, 0.1, met)
    charged = charges(monkeypatch)
    async with simulate(11) as net:
        promiser = Promiser(net)
        promiser.met = met
        promiser.given = given
        newcomer = await newcomer_with(net, promiser)
        await until_whole(net, newcomer, 60)
        assert promiser.rounds == 1
        assert (promiser.transport.id, BROKEN_WORD_PRICE_MS) in charged
        assert {peer for peer, ms in charged if ms} == {promiser.transport.id}


async def test_a_wrong_header_given_afterwards_counts_against_its_giver_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    met = trio.Event()
    slow_down(monkeypatch, 0.1, met)
    charged = charges(monkeypatch)
    async with simulate(11) as net:
        misleader = Misleader(net)
        misleader.met = met
        newcomer = await newcomer_with(net, misleader)
        await until_whole(net, newcomer, 60)
        assert misleader.rounds == 1
        assert {peer for peer, _ in charged} == {misleader.transport.id}


async def test_few_headers_shown_at_once_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # Four pages: honest nodes are not done in the time that others have when one is.
    met = trio.Event()
    slow_down(monkeypatch, SCAN_GRACE_S / 2.5, met)
    async with simulate(11) as net:
        promiser = Promiser(net)
        promiser.met = met
        promiser.shown, promiser.given = 1, 1
        newcomer = await newcomer_with(net, promiser)
        await until_whole(net, newcomer, 240)


@pytest.mark.parametrize("comes_back", [False, True])
async def test_a_sync_whose_only_source_goes_amid_it_ends(
    comes_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged = charges(monkeypatch)
    async with simulate(11) as net:
        (source,) = await old_nodes(net, 1)
        newcomer = newcomer_of(net, [source])
        await newcomer.start()
        await net.until(lambda: newcomer.height > 64, "under way", 60, step_s=0.05)
        await source.stop()
        if comes_back:
            await source.start()
        sync = newcomer.network.sync
        await net.until(lambda: not sync.statistics().syncing, "given up", 60, step_s=0.05)
        assert sync.statistics().leader is None
        if not comes_back:
            assert newcomer.height < source.height
            await source.start()
        await until_synced(net, newcomer, [source])
        assert sum(ms for _, ms in charged) < BROKEN_WORD_PRICE_MS
        assert newcomer.network.peers.statistics().bans == 0
