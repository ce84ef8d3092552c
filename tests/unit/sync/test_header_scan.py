from __future__ import annotations

from typing import cast

import pytest

from unchained.node.primitives.types import CoinId
from unchained.node.sync.header_lead import BrokenWordError, HeaderLead
from unchained.node.sync.header_scan import HeaderScan
from unchained.node.sync.header_walk import HeaderWalk
from unchained.node.transport.contract import PeerId


class Walk:
    """What a walk comes to that is given nothing."""

    fork_height = 0
    work = 0


def anchor_id(height: int) -> CoinId:
    return CoinId(bytes([height]) * 32)


def scan_of(heights: range) -> HeaderScan:
    scan = HeaderScan(PeerId("peer"))
    for height in heights:
        scan.add(anchor_id(height), height, 100)
    return scan


def test_who_gives_nothing_breaks_no_word_where_all_that_he_showed_is_here() -> None:
    scan = scan_of(range(1, 11))
    lead = HeaderLead(scan, [scan])
    nothing = cast("HeaderWalk", Walk())
    with pytest.raises(BrokenWordError):
        lead.check_word_kept(nothing, {anchor_id(9)})
    lead.check_word_kept(nothing, {anchor_id(10)})


def test_a_scan_begins_anew_above_what_has_become_known_amid_it() -> None:
    scan = scan_of(range(1, 6))
    for height in range(8, 11):
        scan.add(anchor_id(height), height, 100)
    assert (scan.base_height, scan.height, scan.tip) == (7, 10, anchor_id(10))
    assert [scan.height_of(anchor_id(height)) for height in (5, 8, 10)] == [0, 8, 10]
    assert scan.has(anchor_id(9), 9)
    assert scan.ids_above(8, 1) == [anchor_id(9)]
    assert scan.work_above(8) == 200
    scan.cut(8)
    assert (scan.height, scan.tip) == (8, anchor_id(8))
