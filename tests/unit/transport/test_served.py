"""Places of those who ask, and what their answers may hold."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from unchained.node.transport.contract import PeerId, ServeLimits
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.libp2p.budget import NodeBudget
from unchained.node.transport.libp2p.connection import WHOLE_READ_S
from unchained.node.transport.libp2p.pace import PEER_WORK_BURST, PRICE_OF_REFUSAL, Pace
from unchained.node.transport.libp2p.requests import answer
from unchained.node.transport.libp2p.unsent_answers import (
    UNSENT_ANSWER_BYTES_MAX,
    UNSENT_ANSWER_BYTES_OF_PEER_MAX,
    UnsentAnswers,
)
from unchained.node.transport.libp2p.upload import UPLOAD_BURST_S, UPLOAD_WAIT_S_MAX, Upload
from unchained.node.transport.served import PLACE_KEPT_S, Place, Served
from unchained.node.transport.switchboard import Switchboard

MIB = 1 << 20
ONE, TWO, THREE = PeerId("one"), PeerId("two"), PeerId("three")


async def never(peer: PeerId, payload: bytes) -> bytes:
    raise AssertionError


def served(max_per_peer: int, max_total: int) -> Served:
    return Served(never, ServeLimits(100, max_per_peer, max_total))


async def test_places_are_few_for_one_and_for_all() -> None:
    protocol = served(2, 3)
    places = [protocol.enter(ONE) for _ in range(3)]
    assert places[:2] != [None, None]
    assert places[2] is None
    assert protocol.enter(TWO) is not None
    assert places[0] is not None
    protocol.leave(places[0])
    protocol.leave(places[0])
    assert protocol.enter(ONE) is not None
    assert protocol.enter(ONE) is None


async def test_who_has_most_gives_way_to_who_has_none() -> None:
    protocol = served(4, 4)
    greedy = [protocol.enter(ONE) for _ in range(4)]
    assert protocol.enter(TWO) is not None
    assert [place is not None and place.scope.cancel_called for place in greedy] == [
        True,
        False,
        False,
        False,
    ]
    assert protocol.enter(TWO) is not None
    assert protocol.enter(TWO) is None
    assert protocol.enter(THREE) is not None
    assert sum(place is not None and place.scope.cancel_called for place in greedy) == 3


async def test_nobodys_only_place_ends_for_who_has_none_however_long_it_is_held() -> None:
    protocol = served(2, 1)
    first = protocol.enter(ONE)
    assert first is not None
    await trio.sleep(PLACE_KEPT_S)
    second = protocol.enter(TWO)
    assert second is not None
    assert not first.scope.cancel_called
    assert protocol.enter(TWO) is None
    assert protocol.enter(THREE) is not None
    assert not first.scope.cancel_called
    assert not second.scope.cancel_called


async def test_one_of_two_places_ends_at_once_for_who_has_none() -> None:
    protocol = served(2, 3)
    single, first, second = protocol.enter(ONE), protocol.enter(TWO), protocol.enter(TWO)
    assert protocol.enter(THREE) is not None
    ended = [place is not None and place.scope.cancel_called for place in (single, first, second)]
    assert ended == [False, True, False]
    assert len(protocol._places) == 3


async def test_who_has_one_place_gets_that_of_who_holds_two_for_long() -> None:
    protocol = served(3, 3)
    first, second, own = protocol.enter(ONE), protocol.enter(ONE), protocol.enter(TWO)
    assert protocol.enter(TWO) is None
    await trio.sleep(PLACE_KEPT_S)
    assert protocol.enter(TWO) is not None
    ended = [place is not None and place.scope.cancel_called for place in (first, second, own)]
    assert ended == [True, False, False]


async def test_however_many_hold_places_that_they_take_anew_one_is_left_for_who_has_none() -> None:
    protocol = served(4, 8)
    company = [PeerId(f"peer {number}") for number in range(40)]
    for _ in range(5):
        held = [place for peer in company if (place := protocol.enter(peer)) is not None]
        own = protocol.enter(ONE)
        assert own is not None
        assert not own.scope.cancel_called
        await trio.sleep(PLACE_KEPT_S - 0.1)
        for place in (own, *held):
            protocol.leave(place)
    assert not protocol._places


async def test_of_answers_too_many_the_one_that_is_not_taken_is_given_up() -> None:
    waiting = UnsentAnswers()
    places = [Place(PeerId(f"peer {number}")) for number in range(40)]
    for place in places[:16]:
        assert waiting.hold(place, 2 * MIB)
    for place in places[:8]:
        waiting.progressed(place)
    for place in places[16:20]:
        assert waiting.hold(place, 2 * MIB)
        assert waiting.bytes <= UNSENT_ANSWER_BYTES_MAX
    given_up = [place.scope.cancel_called for place in places[:20]]
    assert given_up == [False] * 8 + [True] * 4 + [False] * 8
    for place in places:
        waiting.leave(place)
    assert waiting.bytes == 0
    assert not waiting._of_peer


async def test_whoever_has_most_waiting_gives_way_whatever_it_takes_now_and_then() -> None:
    waiting = UnsentAnswers()
    honest = Place(TWO, "20.1.0.1")
    assert waiting.hold(honest, 2 * MIB)
    names = [PeerId(f"name {number}") for number in range(4)]
    crowd = [Place(name, "66.6.0.6") for name in names for _ in range(4)]
    held = [place for place in crowd if waiting.hold(place, 2 * MIB)]
    assert len(held) == 15
    for place in held:
        waiting.progressed(place)
    further = Place(PeerId("one more name"), "66.6.0.6")
    assert not waiting.has_room(further)
    assert not waiting.hold(further, 2 * MIB)
    newcomer = Place(PeerId("newcomer"), "30.1.0.1")
    assert waiting.has_room(newcomer)
    assert waiting.hold(newcomer, 2 * MIB)
    assert not honest.scope.cancel_called
    assert [place.scope.cancel_called for place in held] == [True] + [False] * 14
    for place in (honest, newcomer, *held):
        waiting.leave(place)
    assert not waiting._of_group


async def test_one_peers_answers_are_bounded() -> None:
    waiting = UnsentAnswers()
    places = [Place(ONE) for _ in range(64)]
    held = [waiting.hold(place, 2 * MIB) for place in places]
    assert 2 * MIB * sum(held) == UNSENT_ANSWER_BYTES_OF_PEER_MAX
    assert waiting.hold(Place(TWO), 2 * MIB)
    assert not waiting.has_room(places[0])
    assert waiting.has_room(Place(TWO))
    assert not waiting.hold(Place(TWO), UNSENT_ANSWER_BYTES_MAX + 1)


async def test_answers_wait_for_what_gossip_leaves() -> None:
    upload = Upload(MIB)
    began = trio.current_time()
    part, sent = 64 << 10, 0

    async def answer() -> None:
        nonlocal sent
        while True:
            await upload.turn(part)
            sent += part

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(answer)
        for _ in range(50):
            upload.note_gossip(MIB // 10)
            await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    passed = trio.current_time() - began
    # Gossip of 5 MiB went first, but for the one part that each answer was waiting to send.
    assert sent <= (passed + UPLOAD_BURST_S) * MIB - 5 * MIB + 20 * part
    assert sent >= (passed - 2) * MIB - 5 * MIB


async def test_requests_are_refused_while_answers_would_wait_for_long() -> None:
    upload = Upload(1000)
    upload.note_gossip(int(1000 * (UPLOAD_BURST_S + UPLOAD_WAIT_S_MAX)))
    assert not upload.is_busy
    upload.note_gossip(1)
    assert upload.is_busy
    await trio.sleep(0.1)
    assert not upload.is_busy


async def test_without_a_cap_nothing_waits() -> None:
    upload = Upload(0)
    began = trio.current_time()
    for _ in range(1000):
        upload.note_gossip(MIB)
        await upload.turn(MIB)
    assert trio.current_time() == began
    assert not upload.is_busy


class Taken:
    """A stream whose other side takes at once what it is sent."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.written.append(data)

    async def close(self) -> None:
        pass

    async def ended(self) -> bool:
        return True


async def test_who_goes_on_asking_without_a_place_waits() -> None:
    stream, full = Taken(), SimpleNamespace(enter=lambda _peer, _protocol: None)
    connection = SimpleNamespace(
        budget=NodeBudget(), pace=Pace(None), info=SimpleNamespace(peer=ONE)
    )
    given: tuple[Any, ...] = (full, connection, "headers", stream)
    began = trio.current_time()
    for _ in range(PEER_WORK_BURST // PRICE_OF_REFUSAL):
        await answer(*given)
    assert trio.current_time() == began
    await answer(*given)
    assert trio.current_time() > began
    assert set(stream.written) == {b"\x01\x00\x00\x00\x00"}


class Untaken(Taken):
    """A stream of one request whose other side takes nothing of the answer but its first part."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self._unread = bytearray(len(payload).to_bytes(4, "big") + payload)
        self.takes = 1
        self.was_cut_off = False

    async def read(self, n: int) -> bytes:
        found = bytes(self._unread[:n])
        del self._unread[:n]
        return found

    async def abandoned(self) -> None:
        await trio.sleep_forever()

    async def write(self, data: bytes) -> None:
        if len(self.written) >= self.takes:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                self.was_cut_off = True
                raise
        await super().write(data)


class Answering:
    """A node that answers any request with as many bytes as are asked for."""

    def __init__(self, upload_bytes_per_s: int = 0) -> None:
        self.switchboard = Switchboard(
            PeerId("self"), structlog.get_logger(), random.Random(1), NoGossip()
        )
        self.switchboard.serve("large", self._large, ServeLimits(100, 64, 64))
        self.budget = NodeBudget(upload_bytes_per_s)
        self.made = 0
        """Answers, taken or not."""

    async def _large(self, peer: PeerId, payload: bytes) -> bytes:
        self.made += 1
        return bytes(int(payload))

    async def answer(self, peer: PeerId, stream: Any) -> None:
        connection: Any = SimpleNamespace(
            budget=self.budget, pace=Pace(None), info=SimpleNamespace(peer=peer)
        )
        await answer(self.switchboard, connection, "large", stream)


class NoGossip:
    """Carries nothing."""

    def send_gossip(self, peer: PeerId, rpc: Rpc) -> bool:
        return False


REFUSED = b"\x01\x00\x00\x00\x00"


async def test_of_one_peer_that_takes_nothing_further_answers_are_refused() -> None:
    node = Answering()
    streams = [Untaken(b"%d" % (2 * MIB)) for _ in range(8)]
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(node.answer, ONE, stream)
            await trio.testing.wait_all_tasks_blocked()
        held = UNSENT_ANSWER_BYTES_OF_PEER_MAX // (2 * MIB)
        assert [stream.written == [REFUSED] for stream in streams] == [False] * held + [True] * (
            8 - held
        )
        assert node.switchboard.counters.requests_refused == 8 - held
        # What is refused is not made.
        assert node.made == held
        assert node.budget.answers.bytes == UNSENT_ANSWER_BYTES_OF_PEER_MAX
        # Who takes what it asked for is served meanwhile.
        other = Untaken(b"%d" % MIB)
        other.takes = 1000
        await node.answer(TWO, other)
        assert len(b"".join(other.written)) == 5 + MIB
        await trio.sleep(WHOLE_READ_S)
    # Nobody waits longer for what is not taken, and nothing is left of it.
    assert all(stream.was_cut_off for stream in streams[:held])
    assert node.budget.answers.bytes == 0
    assert node.switchboard.enter(ONE, "large") is not None


async def test_of_many_peers_that_take_nothing_the_answers_that_wait_longest_are_cut_off() -> None:
    node = Answering()
    each = 4 * MIB
    held = UNSENT_ANSWER_BYTES_MAX // each
    streams = [Untaken(b"%d" % each) for _ in range(held + 3)]
    async with trio.open_nursery() as nursery:
        for number, stream in enumerate(streams):
            nursery.start_soon(node.answer, PeerId(f"peer {number}"), stream)
            await trio.testing.wait_all_tasks_blocked()
            assert node.budget.answers.bytes <= UNSENT_ANSWER_BYTES_MAX
        assert [stream.was_cut_off for stream in streams] == [True] * 3 + [False] * held
        assert REFUSED not in [stream.written[0] for stream in streams]
        nursery.cancel_scope.cancel()
    assert node.budget.answers.bytes == 0


async def test_answers_are_sent_at_the_pace_of_the_cap() -> None:
    node, began = Answering(MIB), trio.current_time()
    stream = Untaken(b"%d" % (6 * MIB))
    stream.takes = 1000
    await node.answer(ONE, stream)
    assert len(b"".join(stream.written)) == 5 + 6 * MIB
    assert trio.current_time() - began == pytest.approx(6 - UPLOAD_BURST_S, abs=0.1)


async def test_while_gossip_takes_all_of_the_cap_requests_are_refused() -> None:
    node = Answering(MIB)
    node.budget.upload.note_gossip(int(MIB * (UPLOAD_BURST_S + UPLOAD_WAIT_S_MAX + 1)))
    stream = Untaken(b"10")
    await node.answer(ONE, stream)
    assert stream.written == [REFUSED]
    await trio.sleep(2)
    stream = Untaken(b"10")
    await node.answer(ONE, stream)
    assert stream.written == [b"\x00\x00\x00\x00\x0a" + bytes(10)]
