"""What a transfer should pay to be included soon: from what waits, and from the last bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from unchained.node.chain.answers import WaitingFees
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.transfer import SizedTransfer
from unchained.storage import schema
from unchained.storage.kv import Reader

LOOKED_BACK: Final = 8
"""Bodies of the main chain that an estimate looks at."""

FULL_SHARE: Final = 0.9
"""From this share of its limit on, a body counts as full: something may have been left out."""

MICROGRAINS: Final = 1_000_000


class EstimatedFee(msgspec.Struct, frozen=True, gc=False):
    """A rate in grains per byte of size, and where it comes from; `minimum` is what the mempool
    asks for at present."""

    fee_rate: int
    source: Literal["minimum", "mempool", "recent bodies"]
    minimum: int


def estimate_fee(
    view: Reader, network: Network, height: int, waiting: WaitingFees, target: int
) -> EstimatedFee:
    """Return the rate at which a transfer should be included within `target` anchors above a tip
    of some height.

    The highest of three: the mempool's present minimum; one grain above the rate at which the
    waiting transfers, the best first, fill so many bodies, if they do; and the median of the lowest
    rates in those of the last bodies that were full, if so many were that fewer than `target` of
    them had room. Raises a `StoreError`.
    """
    minimum = ceil_rate(waiting.min_fee_rate)
    options: list[tuple[int, Literal["minimum", "mempool", "recent bodies"]]] = [
        (minimum, "minimum"),
        (_rate_to_beat(waiting.fees, target * network.max_body_size), "mempool"),
    ]
    full_rates = _full_bodies(view, height, int(network.max_body_size * FULL_SHARE))
    if full_rates and min(height, LOOKED_BACK) - len(full_rates) < target:
        options.append((sorted(full_rates)[len(full_rates) // 2], "recent bodies"))
    rate, source = max(options, key=lambda option: option[0])
    return EstimatedFee(rate, source, minimum)


def ceil_rate(rate: float) -> int:
    """Return a rate as the least whole number of grains that meets it, to a millionth."""
    return -(-int(rate * MICROGRAINS) // MICROGRAINS)


def _rate_to_beat(fees: Sequence[tuple[int, int]], room: int) -> int:
    """Return a grain above the rate at which transfers, as (fee, size), fill a room of bytes; 0
    if they do not fill it."""
    for fee, size in sorted(fees, key=lambda item: item[0] / item[1], reverse=True):
        room -= size
        if room <= 0:
            return fee // size + 1
    return 0


def _full_bodies(view: Reader, height: int, full: int) -> list[int]:
    """Return the lowest fee rate in each of the last bodies that holds `full` bytes or more."""
    rates = []
    for number in range(height, max(0, height - LOOKED_BACK), -1):
        anchor_id = schema.HEIGHT.get(view, number)
        record = None if anchor_id is None else schema.ANCHOR.get(view, anchor_id)
        if record is None or not record.body:
            continue
        wids = Body.from_bytes(record.body).transfers
        raws = [raw for raw in schema.TRANSFER.get_many(view, wids) if raw is not None]
        transfers = [SizedTransfer.from_bytes(raw) for raw in raws]
        if sum(sized.size for sized in transfers) >= full:
            rates.append(min(sized.transfer.fee // sized.size for sized in transfers))
    return rates
