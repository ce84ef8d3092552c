from __future__ import annotations

from unchained.node.consensus.header_work import anchor_work, deserves_bodies
from unchained.node.consensus.params import REG, work


def test_little_work_is_not_worth_bodies() -> None:
    assert anchor_work(REG.target0, REG) == 4 * work(REG.target0)
    assert deserves_bodies(0, 10**9, REG.window, REG)
    assert not deserves_bodies(24, 100, REG.window + 1, REG)
    assert deserves_bodies(25, 100, REG.window + 1, REG)
