"""What of a body's transfers is asked for: no more than shows that it is too large (§5.2)."""

from __future__ import annotations

from unchained.node.consensus.params import REG
from unchained.node.primitives.body import Body
from unchained.node.primitives.transfer import wid_of
from unchained.node.relay.fetcher import _NeededTransfers

RAWS = {wid_of(raw): raw for raw in (bytes([number]) * (250 << 10) for number in range(20))}
WIDS = list(RAWS)


def body_of(*wids: bytes) -> Body:
    return Body((), (), wids, bytes(32), bytes(32))


def test_all_of_a_body_that_may_be_as_large() -> None:
    needed = _NeededTransfers([body_of(*WIDS[:16])], WIDS[:16], REG)
    for wid in WIDS[:16]:
        assert wid in needed.missing()
        needed.add({wid: RAWS[wid]})
    assert needed.missing() == []
    assert set(needed.raws) == set(WIDS[:16])


def test_no_more_of_a_body_that_is_too_large() -> None:
    large, other = body_of(*WIDS[:18]), body_of(WIDS[18], WIDS[19])
    needed = _NeededTransfers([large, other], WIDS, REG)
    needed.add({wid: RAWS[wid] for wid in WIDS[:16]})
    assert needed.missing() == WIDS[16:]
    needed.add({WIDS[16]: RAWS[WIDS[16]]})
    assert needed.missing() == WIDS[18:]


def test_a_transfer_counts_as_often_as_it_is_listed() -> None:
    often = body_of(*WIDS[:1] * 17, WIDS[1])
    needed = _NeededTransfers([often], WIDS[:2], REG)
    needed.add({WIDS[0]: RAWS[WIDS[0]]})
    assert needed.missing() == []


def test_what_is_known_here_is_not_asked_for() -> None:
    needed = _NeededTransfers([body_of(*WIDS[:3])], WIDS[1:2], REG)
    assert needed.missing() == WIDS[1:2]
    needed.add({WIDS[1]: RAWS[WIDS[1]]})
    assert needed.missing() == []
