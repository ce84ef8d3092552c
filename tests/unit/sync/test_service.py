"""What one peer's state means for the node, with everything around the service stubbed."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import NotNowError
from unchained.node.sync import service as service_module
from unchained.node.sync.alone import ALONE_S, NOBODY_ANSWERS
from unchained.node.sync.comparison_limits import (
    COMPARISONS_BURST,
    COMPARISONS_PER_EPOCH,
    SHARES_OF_HOST,
)
from unchained.node.sync.peer_state import PeerState
from unchained.node.sync.service import SyncService, SyncSettings
from unchained.node.transport.contract import PeerId

OWN_TIP = CoinId(b"\x01" * 32)
THEIR_TIP = CoinId(b"\x02" * 32)
EPOCH_S = REG.epoch_ms / 1000


class Chain:
    """Knows every anchor. `asked` counts the trees that were walked for votes."""

    def __init__(self) -> None:
        self.network = REG
        self.queries = self
        self.status = SimpleNamespace(value=SimpleNamespace(tip=OWN_TIP, height=9, refused=None))
        self.asked = 0
        self.is_slow = False

    async def is_known(self, _anchor_id: CoinId) -> bool:
        return True

    async def are_apart(self, _tip: CoinId) -> bool:
        return False

    async def above_fork(self, _one: CoinId, _other: CoinId) -> list[CoinId]:
        self.asked += 1
        if self.is_slow:
            await trio.sleep_forever()
        return []


class Peers:
    """All are at one address; those of `there` are greeted."""

    def __init__(self, *there: PeerId) -> None:
        self.there = list(there)
        self.reputation = self
        self.knows_others = True

    def greeted(self) -> list[PeerId]:
        return self.there

    def is_outbound(self, _peer: PeerId) -> bool:
        return True

    def status_of(self, peer: PeerId) -> object:
        return SimpleNamespace(tip=THEIR_TIP, height=9) if peer in self.there else None

    def group_of(self, _peer: PeerId) -> str:
        return "one"

    def penalize(self, *_: object, **__: object) -> None:
        pass


def service_of(chain: Chain, peers: Peers, alone_s: float | None = ALONE_S) -> SyncService:
    stubs: list[Any] = [chain, peers, None]
    return SyncService(
        *stubs,
        settings=SyncSettings(alone_s=alone_s),
        clock=cast("Any", None),
        rng=random.Random(1),
        log=structlog.get_logger(),
    )


def settled() -> PeerState:
    state = PeerState()
    state.settled = True
    return state


def ahead() -> PeerState:
    state = settled()
    state.is_ahead = True
    return state


async def test_nobody_waits_for_a_peer_that_is_gone() -> None:
    there, gone = PeerId("there"), PeerId("gone")
    service = service_of(Chain(), Peers(there))
    service._states |= {there: settled(), gone: ahead()}
    assert not service.synced.value
    await service._attend(gone)
    assert service.synced.value


async def test_what_a_peer_that_is_gone_was_still_to_be_asked_for_goes_with_it() -> None:
    gone = PeerId("gone")
    service = service_of(Chain(), Peers())
    service._states[gone] = settled()
    service._votes._left[gone] = [OWN_TIP]
    await service._attend(gone)
    assert not service._votes.has_more(gone)


async def test_what_is_wanted_while_a_peer_is_looked_at_is_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = PeerId("peer")
    service = service_of(Chain(), Peers(peer))
    service._states[peer] = settled()
    looked: list[list[CoinId]] = []

    async def settle(_peer: PeerId, state: PeerState, _tip: CoinId) -> None:
        looked.append(list(state.wanted))
        state.wanted.clear()
        await trio.lowlevel.checkpoint()
        if len(looked) == 1:
            assert service.want(peer, THEIR_TIP)

    monkeypatch.setattr(service, "_settle", settle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service._attend, peer)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert looked == [[], [THEIR_TIP]]


async def test_nobody_waits_while_a_peer_gives_votes_whose_tip_is_known() -> None:
    chain, slow = Chain(), PeerId("slow")
    chain.is_slow = True
    service = service_of(chain, Peers(slow))
    state = service._states[slow] = ahead()
    state.owe(OWN_TIP, THEIR_TIP)
    with trio.move_on_after(1):
        await service._settle(slow, state, THEIR_TIP)
    assert chain.asked == 1
    assert service.synced.value


@pytest.mark.parametrize("knows_others", [False, True])
async def test_where_nobody_answers_that_nothing_is_mined_is_said_once(knows_others: bool) -> None:
    peers = Peers()
    peers.knows_others = knows_others
    service = service_of(Chain(), peers, alone_s=None)
    with capture_logs() as logs, trio.move_on_after(10 * ALONE_S):
        await service._wait_alone(None)
    assert not service.synced.value
    # Where nobody is known, it was said at the start.
    said = [(entry["event"], entry["why"]) for entry in logs]
    assert said == [("mining.refused", NOBODY_ANSWERS)] * knows_others
    # Who has answered and is gone before it was caught up with is one more such case.
    peers.there = [PeerId("there")]
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service._wait_alone, None)
            await trio.sleep(1.5 * ALONE_S)
            peers.there = []
            await trio.sleep(3 * ALONE_S)
            nursery.cancel_scope.cancel()
    assert [entry["event"] for entry in logs] == ["mining.refused"]


class Silent:
    """A walk that gives a page at most, and then nothing more."""

    is_ahead = False

    def __init__(self, *_: object) -> None:
        self.headers = 0
        self.at_end = False

    async def next_page(self) -> None:
        raise NotNowError(PeerId("peer"), "does not answer")


@pytest.mark.parametrize("shows", [False, True])
async def test_what_a_peer_showed_before_says_nothing_of_a_tip_that_it_only_names(
    shows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever has relayed a good chain once keeps a node from mining by a name alone."""
    peer = PeerId("peer")
    service = service_of(Chain(), Peers(peer))
    service._states[peer] = ahead()
    monkeypatch.setattr(Silent, "is_ahead", shows)
    monkeypatch.setattr(service_module, "HeaderWalk", Silent)
    followed = await service._try_to_follow(peer, THEIR_TIP)
    assert followed.why is not None
    assert followed.is_late is shows
    assert service._rest.is_on(trio.current_time()) is shows


async def test_a_tip_that_led_nowhere_by_one_peer_is_asked_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer, other = PeerId("peer"), PeerId("other")
    service = service_of(Chain(), Peers(peer, other))
    service._states |= {peer: settled(), other: settled()}
    monkeypatch.setattr(service_module, "HeaderWalk", Silent)
    await service._try_to_follow(peer, THEIR_TIP)
    assert service.want(other, THEIR_TIP)


async def test_an_address_is_asked_for_votes_so_often_under_whatever_names_it_comes() -> None:
    chain = Chain()
    service = service_of(chain, Peers())
    states = []
    most = SHARES_OF_HOST * COMPARISONS_BURST
    for number in range(3 * most):
        state = PeerState()
        await service._settle(PeerId(str(number)), state, OWN_TIP)
        states.append(state)
    assert chain.asked == most
    # Who was not asked is asked when there is time.
    await trio.sleep(1.5 * EPOCH_S / (SHARES_OF_HOST * COMPARISONS_PER_EPOCH))
    await service._settle(PeerId("last"), states[-1], OWN_TIP)
    await service._settle(PeerId("last"), states[-1], OWN_TIP)
    assert chain.asked == most + 1


async def test_votes_of_what_was_followed_count_among_those_asked_for() -> None:
    chain, peer = Chain(), PeerId("peer")
    service = service_of(chain, Peers())
    for _ in range(3 * COMPARISONS_BURST):
        state = settled()
        state.owe(OWN_TIP, THEIR_TIP)
        await service._settle(peer, state, OWN_TIP)
    assert chain.asked == COMPARISONS_BURST
    # That takes nothing from another behind the same address.
    await service._settle(PeerId("beside"), PeerState(), OWN_TIP)
    assert chain.asked == COMPARISONS_BURST + 1


async def test_how_long_a_node_still_waits_before_it_goes_on_by_itself_is_known() -> None:
    peers = Peers()
    peers.knows_others = True
    service = service_of(Chain(), peers)
    assert service.alone_in_s() == ALONE_S
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service._wait_alone, ALONE_S)
        await trio.sleep(20)
        assert service.alone_in_s() == ALONE_S - 20
        await trio.sleep(ALONE_S)
        assert service.synced.value
        nursery.cancel_scope.cancel()
    assert service_of(Chain(), peers, alone_s=None).alone_in_s() is None
