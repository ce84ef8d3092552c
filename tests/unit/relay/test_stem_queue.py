"""What peers have handed on and is not looked at yet: bounded for each and in all."""

from __future__ import annotations

from unchained.node.relay.stem_queue import (
    COUNTED_BYTES_MIN,
    QUEUE_BYTES_MAX,
    QUEUE_OF_PEER_BYTES_MAX,
    StemQueue,
)
from unchained.node.transport.contract import PeerId

ONE, OTHER = PeerId("one"), PeerId("other")
LONGEST = 256 << 10


def emptied(queue: StemQueue, peer: PeerId) -> list[bytes]:
    found = []
    while (raw := queue.first(peer)) is not None:
        found.append(raw)
        queue.done(peer)
    return found


def test_a_line_is_begun_once_and_kept_until_its_last_is_done() -> None:
    queue = StemQueue()
    assert queue.first(ONE) is None
    assert queue.put(ONE, b"1")
    assert not queue.put(ONE, b"2")
    assert queue.put(OTHER, b"3")
    assert queue.first(ONE) == queue.first(ONE) == b"1"
    assert queue.peers() == [ONE, OTHER]
    assert emptied(queue, ONE) == [b"1", b"2"]
    assert queue.peers() == [OTHER]
    assert queue.put(ONE, b"4")


def test_one_peer_has_its_share_by_number_and_by_length() -> None:
    for length in (0, 1, COUNTED_BYTES_MIN, LONGEST):
        queue = StemQueue()
        for _ in range(100):
            queue.put(ONE, bytes(length))
        kept = QUEUE_OF_PEER_BYTES_MAX // max(length, COUNTED_BYTES_MIN)
        assert len(queue) == kept
        assert queue.left_out == 100 - kept
        assert len(emptied(queue, ONE)) == kept
        for _ in range(kept):
            queue.put(ONE, bytes(length))
        assert len(queue) == kept


def test_all_together_are_bounded_however_many_peers_there_are() -> None:
    for length in (1, LONGEST):
        queue = StemQueue()
        for number in range(2_000):
            queue.put(PeerId(f"peer {number}"), bytes(length))
        assert len(queue) == QUEUE_BYTES_MAX // max(length, COUNTED_BYTES_MIN)


def test_the_longest_line_makes_room_but_never_of_what_is_in_hand() -> None:
    queue = StemQueue()
    shares = QUEUE_BYTES_MAX // QUEUE_OF_PEER_BYTES_MAX
    for number in range(shares):
        for at in range(QUEUE_OF_PEER_BYTES_MAX // LONGEST):
            queue.put(PeerId(f"flooder {number}"), bytes((at,)) * LONGEST)
    assert queue.put(ONE, b"honest")
    assert queue.left_out == 1
    assert queue.first(ONE) == b"honest"
    short = emptied(queue, PeerId("flooder 0"))
    assert [raw[0] for raw in short] == [0, 1, 2]

    queue = StemQueue()
    for number in range(QUEUE_BYTES_MAX // LONGEST):
        queue.put(PeerId(f"flooder {number}"), bytes(LONGEST))
    assert not queue.put(ONE, b"honest")
    assert queue.first(ONE) is None
    assert all(queue.first(peer) is not None for peer in queue.peers())


def test_a_banned_one_keeps_what_is_in_hand_alone() -> None:
    queue = StemQueue()
    for number in range(3):
        queue.put(ONE, b"%d" % number)
    queue.forget_rest(ONE)
    assert emptied(queue, ONE) == [b"0"]
    assert len(queue) == 0
    for _ in range(QUEUE_OF_PEER_BYTES_MAX // COUNTED_BYTES_MIN):
        queue.put(ONE, b"again")
    assert queue.left_out == 0
