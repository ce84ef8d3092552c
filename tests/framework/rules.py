"""What the tests of the rules share: a chain as a forge knows it, and which rule fires."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.framework.forge import Forged
from unchained.node.consensus.context import AnchorContext
from unchained.node.crypto.history_range import HistoryPeaks
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId


def context_of(anchor: Forged) -> AnchorContext:
    """Return a forged anchor as its children see it."""
    first = anchor.chain()[1] if anchor.height else None
    return AnchorContext(
        anchor.id,
        anchor.height,
        anchor.time,
        anchor.n_total,
        anchor.target,
        0 if first is None else first.time,
        0 if first is None else first.n_total,
        HistoryPeaks(anchor.history.length, anchor.history.nodes()),
    )


class ForgedBranch:
    """The chain that ends in a forged anchor, as the rules read it."""

    def __init__(self, tip: Forged) -> None:
        self._tip = tip
        self._chain = tip.chain()

    def anchor_at(self, height: int) -> AnchorContext | None:
        """Return the anchor at a height."""
        inside = 0 <= height < len(self._chain)
        return context_of(self._chain[height]) if inside else None

    def target_at(self, height: int) -> int | None:
        """Return the target in the header of the anchor at a height."""
        inside = 0 <= height < len(self._chain)
        return self._chain[height].coin.header.target if inside else None

    def included(self, coin_id: CoinId, since: int = 0) -> Coin | None:
        """Return the coin if it is an anchor of the chain or was listed by one."""
        assert since >= 0
        return self._tip.listed.get(coin_id)


def rule_broken(validate: Callable[[], object]) -> str:
    """Return the name of the rule that a validation raises."""
    with pytest.raises(ProtocolError) as caught:
        validate()
    return caught.value.name
