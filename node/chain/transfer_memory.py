"""What transfers were found to be by their bytes, remembered by wid (Protocol §5.1): nothing is
decoded or verified twice on its way from gossip, or from a wallet, to a body."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from unchained.node.consensus.transfers import (
    ProvenTransfer,
    TransferVerdict,
    ValidatedTransfer,
)
from unchained.node.primitives.types import Wid

VERDICTS_REMEMBERED_MAX: Final = 65_536
"""Verdicts kept: more than the transfers of sixteen full bodies, about 10 MB."""

DECODED_BYTES_MAX: Final = 8 << 20
"""Bytes of transfers that are kept decoded, two full bodies of them; they take twice as many."""


class TransferMemory:
    """Verdicts by wid, and the latest proven transfers, decoded; the oldest are forgotten first.

    For any number of threads: the writer, those that verify, and those of the wallets.
    """

    def __init__(
        self,
        verdicts_max: int = VERDICTS_REMEMBERED_MAX,
        decoded_bytes_max: int = DECODED_BYTES_MAX,
    ) -> None:
        self._verdicts_max = verdicts_max
        self._decoded_bytes_max = decoded_bytes_max
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[Wid, TransferVerdict] = OrderedDict()
        self._proven: OrderedDict[Wid, ProvenTransfer] = OrderedDict()
        self._decoded_bytes = 0

    def verdict(self, wid: Wid) -> TransferVerdict | None:
        """Return the verdict on a transfer, if it is remembered."""
        with self._lock:
            return self._verdicts.get(wid)

    def proven(self, wid: Wid) -> ProvenTransfer | None:
        """Return a transfer that was found good, if it is remembered decoded."""
        with self._lock:
            return self._proven.get(wid)

    def remember(self, wid: Wid, found: ValidatedTransfer) -> None:
        """Keep what a transfer was found to be."""
        with self._lock:
            self._verdicts[wid] = found.verdict
            while len(self._verdicts) > self._verdicts_max:
                self._verdicts.popitem(last=False)
            if found.is_good and wid not in self._proven:
                self._proven[wid] = found.proven()
                self._decoded_bytes += found.length
                while self._decoded_bytes > self._decoded_bytes_max:
                    _, oldest = self._proven.popitem(last=False)
                    self._decoded_bytes -= len(oldest.sized.raw)
