"""Which gossiped messages are held to have been seen."""

from __future__ import annotations

from unchained.node.transport.contract import MessageId
from unchained.node.transport.seen_ids import SEEN_KEPT_S, SEEN_MAX, SeenIds


def mid(number: int) -> MessageId:
    return MessageId(number.to_bytes(32, "big"))


def test_an_id_waits_is_sent_on_and_is_forgotten() -> None:
    seen = SeenIds()
    assert mid(1) not in seen
    assert not seen.was_sent_on(mid(1))
    seen.add(mid(1), 0.0)
    assert mid(1) in seen
    assert not seen.was_sent_on(mid(1))
    seen.sent_on(mid(1))
    assert seen.was_sent_on(mid(1))
    seen.add(mid(1), 1.0)
    assert not seen.was_sent_on(mid(1))
    assert len(seen) == 1
    seen.forget(mid(1))
    seen.forget(mid(1))
    assert mid(1) not in seen


def test_old_ids_are_forgotten_and_those_that_came_again_are_not() -> None:
    seen = SeenIds()
    for number in range(4):
        seen.add(mid(number), 0.5 * number)
    seen.add(mid(0), 9.0)
    seen.forget_old(SEEN_KEPT_S + 0.9)
    assert len(seen) == 4
    seen.forget_old(SEEN_KEPT_S + 1.0)
    assert [number for number in range(4) if mid(number) in seen] == [0, 3]
    seen.forget_old(SEEN_KEPT_S + 9.0)
    assert len(seen) == 0


def test_the_oldest_make_room() -> None:
    seen = SeenIds()
    for number in range(SEEN_MAX):
        seen.add(mid(number), 0.0)
    assert len(seen) == SEEN_MAX
    seen.add(mid(SEEN_MAX), 0.0)
    assert SEEN_MAX * 0.98 < len(seen) <= SEEN_MAX
    assert mid(0) not in seen
    assert not seen._waiting - seen._untils.keys()
    assert mid(SEEN_MAX) in seen
