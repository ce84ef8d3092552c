"""Which proofs of a chain of headers are verified before its bodies are asked for: drawn by work.

A header counts by its target, and what makes an id that fits one is a million times cheaper where
the proof is made up. Of a chain whose last few headers claim most of the work, an even sample would
often have none of these. So a header is drawn as often as it has a part in the work, and it does
not help to have the work in few of them (FlyClient: Bünz, Kiffer, Luu, Zamani 2020).
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from unchained.node.chain.service import ChainService
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId

FORGED_PARTS: Final = 4
"""A chain is to be found out of which one part in so many is forged, by work: whoever mines less
than three quarters of the chain's rivals has to forge more."""
MISSED_BITS: Final = 40
"""One in 2**40 of such chains is missed. Of those with a tenth forged, one in 65,000."""
PROOFS_DRAWN: Final = math.ceil(MISSED_BITS * math.log(2) * FORGED_PARTS)
"""A forged part `p` is missed by each draw with 1 - p, by so many with at most exp(-p * so many):
111, a second of one core at 16 MiB."""


PROVEN_HEADERS_KEPT: Final = 16_384
"""Headers whose proofs need not be verified again when they are drawn again, from any peer."""


class ProofSample:
    """Draws from one chain of headers that comes page by page.

    Of each page so many as it has a part in the work so far: so a forged page is found out when it
    comes, and in the end each header was drawn at least as often as it has a part in the whole.
    """

    def __init__(self, network: Network, rng: random.Random) -> None:
        self._network = network
        self._rng = rng
        self._work = 0

    def draw(self, page: Sequence[Coin]) -> list[Coin]:
        """Return those of the next anchors of the chain whose proofs are to be verified."""
        sums = list(accumulate(anchor_work(coin.header.target, self._network) for coin in page))
        if not sums:
            return []
        self._work += sums[-1]
        draws, rest = divmod(PROOFS_DRAWN * sums[-1], self._work)
        draws += self._rng.randrange(self._work) < rest
        if draws >= len(page):
            return list(page)
        drawn = {bisect_right(sums, self._rng.randrange(sums[-1])) for _ in range(draws)}
        return [page[at] for at in sorted(drawn)]


class HeaderProofs:
    """Verifies what is drawn, each proof once: a chain that is offered again and again, whose
    bodies do not come, costs no more than its length."""

    def __init__(self, chain: ChainService, rng: random.Random) -> None:
        self._chain = chain
        self._rng = rng
        self._proven: OrderedDict[CoinId, None] = OrderedDict()

    def sample(self) -> ProofSample:
        """Return a sample of a chain, nothing drawn yet."""
        return ProofSample(self._chain.network, self._rng)

    def is_proven(self, anchor_id: CoinId) -> bool:
        """Return whether an anchor's proof has been verified here, and that is remembered."""
        return anchor_id in self._proven

    async def verify(self, peer: str, page: Sequence[Coin], sample: ProofSample) -> None:
        """Verify proofs of the next anchors of a chain that a peer shows. Raises `BadMixError`."""
        drawn = sample.draw(page)
        await self._chain.verify_mixes([it for it in drawn if it.id not in self._proven], peer)
        for coin in drawn:
            self._proven[coin.id] = None
            self._proven.move_to_end(coin.id)
            if len(self._proven) > PROVEN_HEADERS_KEPT:
                self._proven.popitem(last=False)
