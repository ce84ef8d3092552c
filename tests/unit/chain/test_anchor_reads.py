from __future__ import annotations

from tests.framework.wallets import WalletChain
from unchained.node.chain.anchor_reads import (
    anchors_above,
    header_page,
    locator,
    locator_heights,
    main_stretch,
    votes_since,
)
from unchained.node.consensus.header_work import anchor_work
from unchained.node.primitives.types import CoinId
from unchained.node.wire.limits import MAX_LOCATOR

COINS = 3
"""Bound to each anchor but the last: two fresh coins, and the next anchor."""


def grown(anchors: int) -> WalletChain:
    chain = WalletChain()
    chain.grow(anchors, *[chain._nobody] * COINS)
    return chain


def test_confirmations_count_what_is_bound_to_an_anchor_and_those_above() -> None:
    chain = WalletChain()
    chain.grow(chain.core.network.max_reorg + 20, *[chain._nobody] * COINS)
    settled = chain.core.tree.root.height
    assert settled > 2
    for height in (1, 2, settled - 1, settled, settled + 1, chain.height - 3, chain.height):
        assert votes_since(chain.core.view, height) == COINS * (chain.height - height)


def test_locators_are_dense_at_the_tip_and_end_with_genesis() -> None:
    assert locator_heights(0) == [0]
    assert locator_heights(3) == [3, 2, 1, 0]
    for tip in (9, 10, 11, 12, 500, 2**32):
        heights = locator_heights(tip)
        assert heights[0] == tip
        assert heights[-1] == 0
        assert heights == sorted(set(heights), reverse=True)
        assert len(heights) <= MAX_LOCATOR
        assert heights[: min(10, tip)] == list(range(tip, tip - min(10, tip), -1))


def test_headers_begin_above_the_first_anchor_of_a_locator_that_is_known() -> None:
    chain = grown(12)
    view = chain.core.view
    ids = [view.archive.main_id(height) for height in range(chain.height + 1)]
    assert locator(view) == tuple(ids[height] for height in locator_heights(chain.height))

    def heights_above(known: list[CoinId], tip: CoinId, limit: int) -> list[int]:
        found = anchors_above(view, known, tip, limit)
        assert found is not None
        assert all(view.archive.body(coin.id) == body for coin, body in found)
        return [ids.index(coin.id) for coin, _ in found]

    unknown = CoinId(bytes(32))
    at, tip = ids[7], chain.core.tip.id
    assert at is not None
    assert heights_above([unknown, at], tip, 100) == list(range(8, chain.height + 1))
    assert heights_above([unknown], at, 3) == [1, 2, 3]
    assert anchors_above(view, [], unknown, 100) is None
    base, standings = header_page(view, at, [at, unknown])
    assert base is not None
    assert (base.context.height, base.fork_height) == (7, 7)
    assert standings == ["main", None]


def test_a_stretch_goes_on_after_the_last_anchor_that_is_still_there() -> None:
    chain = grown(6)
    view = chain.core.view
    ids = [view.archive.main_id(height) for height in range(chain.height + 1)]
    known = [coin_id for coin_id in ids[2:4] if coin_id is not None]
    gone = CoinId(bytes(32))
    found = main_stretch(view, 2, [*known, gone], 2)
    assert found.kept == 2
    assert [anchor_id for anchor_id, _ in found.anchors] == ids[4:6]
    coin = view.archive.main_anchor(4)
    assert coin is not None
    assert found.anchors[0][1] == anchor_work(coin.header.target, view.network)
    # Nothing is left of what was known: from the first anchor after genesis on.
    found = main_stretch(view, 5, [gone], 100)
    assert found.kept == 0
    assert [anchor_id for anchor_id, _ in found.anchors] == ids[1:]
