"""What one peer's state means for the node, with everything around the service stubbed."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import structlog
import trio

from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId
from unchained.node.sync.peer_state import PeerState
from unchained.node.sync.service import (
    COMPARISONS_BURST,
    COMPARISONS_PER_EPOCH,
    SyncService,
    SyncSettings,
)
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


def service_of(chain: Chain, peers: Peers) -> SyncService:
    stubs: list[Any] = [chain, peers, None]
    return SyncService(
        *stubs,
        settings=SyncSettings(),
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


async def test_an_address_is_asked_for_votes_so_often_under_whatever_names_it_comes() -> None:
    chain = Chain()
    service = service_of(chain, Peers())
    states = []
    for number in range(3 * COMPARISONS_BURST):
        state = PeerState()
        await service._settle(PeerId(str(number)), state, OWN_TIP)
        states.append(state)
    assert chain.asked == COMPARISONS_BURST
    # Who was not asked is asked when there is time.
    await trio.sleep(2 * EPOCH_S / COMPARISONS_PER_EPOCH)
    await service._settle(PeerId("last"), states[-1], OWN_TIP)
    await service._settle(PeerId("last"), states[-1], OWN_TIP)
    assert chain.asked == COMPARISONS_BURST + 1


async def test_votes_of_what_was_followed_count_among_those_asked_for() -> None:
    chain, peer = Chain(), PeerId("peer")
    service = service_of(chain, Peers())
    for _ in range(3 * COMPARISONS_BURST):
        state = settled()
        state.owe(OWN_TIP, THEIR_TIP)
        await service._settle(peer, state, OWN_TIP)
    assert chain.asked == COMPARISONS_BURST
