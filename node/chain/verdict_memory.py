"""Verdicts on transfers, remembered by wid (Protocol §5.1): no signature is verified twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from unchained.node.consensus.transfer_verdict import TransferVerdict
from unchained.node.primitives.types import Wid

REMEMBERED: Final = 65_536
"""Verdicts kept: more than the transfers of sixteen full bodies, about 10 MB."""


class VerdictMemory:
    """Verdicts by wid, the oldest forgotten first."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._capacity = capacity
        self._verdicts: OrderedDict[Wid, TransferVerdict] = OrderedDict()

    def get(self, wid: Wid) -> TransferVerdict | None:
        """Return the verdict on a transfer, if it is remembered."""
        return self._verdicts.get(wid)

    def remember(self, wid: Wid, verdict: TransferVerdict) -> None:
        """Keep a verdict."""
        self._verdicts[wid] = verdict
        while len(self._verdicts) > self._capacity:
            self._verdicts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._verdicts)
