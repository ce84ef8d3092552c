"""Who gives the headers of a chain, and how long he may take."""

from __future__ import annotations

from typing import cast

import pytest

from unchained.node.primitives.types import CoinId
from unchained.node.sync.header_lead import (
    FAIR_PACE_FACTOR,
    LEAD_GRACE_S,
    BrokenWordError,
    HeaderLead,
)
from unchained.node.sync.header_scan import HeaderScan
from unchained.node.sync.header_walk import HeaderWalk
from unchained.node.transport.contract import PeerId


class Walk:
    """What a walk comes to that is given nothing."""

    fork_height = height = work = 0
    tip_id: CoinId | None = None

    def hand_over(self, peer: PeerId) -> None:
        """Go on with another, who gives nothing either."""


NOTHING = cast("HeaderWalk", Walk())


def scan_of(name: str = "peer", page_s: float = 0.0) -> HeaderScan:
    scan = HeaderScan(PeerId(name))
    for height in range(1, 11):
        scan.add(CoinId(bytes([height]) * 32), height, 100)
    scan.page_s = page_s
    return scan


def test_who_gives_nothing_breaks_no_word_where_all_that_he_showed_is_here() -> None:
    scan = scan_of()
    lead = HeaderLead(scan, [scan])
    with pytest.raises(BrokenWordError):
        lead.check_word_kept(NOTHING, {CoinId(bytes([9]) * 32)})
    lead.check_word_kept(NOTHING, {CoinId(bytes([10]) * 32)})


def test_who_takes_over_is_judged_by_his_own_pages_alone() -> None:
    scans = [scan_of("first"), scan_of("second", page_s=1.0), scan_of("third", page_s=2.0)]
    lead = HeaderLead(scans[0], scans)
    for _ in range(5):
        lead.note_page(100.0)
    assert lead.patience_s(NOTHING) == 0.0
    lead.hand_over(NOTHING)
    assert lead.peer == "second"
    assert lead.patience_s(NOTHING) == LEAD_GRACE_S + FAIR_PACE_FACTOR * 2.0
