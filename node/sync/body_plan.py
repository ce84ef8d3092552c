"""What to ask for and what to make of it, without a network, a clock or a store.

Bodies are shared out among peers in batches, of headers that have been checked.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED

P = TypeVar("P", bound=Hashable)

HEDGE_FACTOR: Final = 3
"""So many times what a batch usually takes has to pass before another peer is asked for it too."""


class DownloadBatch(msgspec.Struct, frozen=True, gc=False):
    """Anchors asked for together, lowest first; `number` counts the batches of a plan up."""

    number: int
    headers: tuple[tuple[Coin, AnchorHeader], ...]

    @property
    def top(self) -> int:
        """The height of the last anchor."""
        return self.headers[-1][0].height


def cut(
    headers: Sequence[tuple[Coin, AnchorHeader]],
    network: Network,
    *,
    size: int,
    most_ids: int,
    most_bytes: int,
) -> list[DownloadBatch]:
    """Cut headers into batches of at most `size` anchors, `most_ids` listed ids, and transfers
    that cannot exceed `most_bytes`; one anchor alone may be above the last two."""
    batches: list[DownloadBatch] = []
    part: list[tuple[Coin, AnchorHeader]] = []
    ids = weight = 0
    for coin, header in headers:
        count = header.fresh.n + header.uncles.n + header.transfers.n
        most = min(header.transfers.n * MAX_TRANSFER_ENCODED, network.max_body_size)
        if part and (len(part) >= size or ids + count > most_ids or weight + most > most_bytes):
            batches.append(DownloadBatch(len(batches), tuple(part)))
            part, ids, weight = [], 0, 0
        part.append((coin, header))
        ids += count
        weight += most
    if part:
        batches.append(DownloadBatch(len(batches), tuple(part)))
    return batches


class _Open(Generic[P]):
    """A batch that is being asked for."""

    def __init__(self, batch: DownloadBatch) -> None:
        self.batch = batch
        self.asked: dict[P, float] = {}
        """Who is being asked, and since when."""
        self.last_asked = 0.0
        self.here: P | None = None
        """Whose answer is being verified."""


class BodyPlan(Generic[P]):
    """Who is asked for which batch. Times in seconds, of any clock.

    Batches are given out lowest first, at most `ahead` beyond the lowest that has not been taken
    in; each peer has a window of its own for what is on its way, which grows with what it delivers
    and halves when it stalls. A batch that stalled or failed goes to another peer. A peer that
    would have nothing to do is asked for what somebody else takes long to deliver, longer than
    `hedge_s` and than is usual: one that is silent holds up nobody for long.
    """

    def __init__(
        self,
        batches: Iterable[DownloadBatch],
        *,
        ahead: int,
        first_window: int,
        window: int,
        hedge_s: float,
    ) -> None:
        self._waiting: deque[DownloadBatch] = deque(batches)
        self._open: dict[int, _Open[P]] = {}
        self._ahead = ahead
        self._first_window = first_window
        self._largest_window = window
        self._hedge_s = hedge_s
        self._usual_s = 0.0
        self._windows: dict[P, int] = {}
        self._refused: dict[int, set[P]] = {}
        self._taken_in = 0

    @property
    def is_done(self) -> bool:
        """Whether every batch has been delivered."""
        return not self._waiting and not self._open

    @property
    def in_flight(self) -> int:
        """Batches that are being asked for."""
        return len(self._open)

    def next_for(self, peer: P, now: float) -> DownloadBatch | None:
        """Return a batch to ask a peer for, if it has room; `failed`, or `arrived` and then
        `delivered` or `failed`, follow."""
        if not self._has_room(peer):
            return None
        for batch in self._waiting:
            if batch.number >= self._taken_in + self._ahead:
                break
            if peer not in self._refused.get(batch.number, ()):
                self._waiting.remove(batch)
                self._open[batch.number] = _Open(batch)
                return self._ask(peer, self._open[batch.number], now)
        for late in self._late_for(peer):
            if self._hedge_at(late) <= now:
                return self._ask(peer, late, now)
        return None

    def look_again_at(self, peer: P) -> float:
        """Return when there may be something to ask a peer for although nothing has changed."""
        if not self._has_room(peer):
            return math.inf
        return min(map(self._hedge_at, self._late_for(peer)), default=math.inf)

    def arrived(self, batch: DownloadBatch, peer: P, now: float) -> bool:
        """Note that a peer has answered; return whether it was the first: others' answers are of
        no use."""
        asked = self._open.get(batch.number)
        if asked is None:
            return False
        if asked.here is not None:
            del asked.asked[peer]
            return False
        asked.here = peer
        took_s = now - asked.asked[peer]
        self._usual_s = took_s if not self._usual_s else (3 * self._usual_s + took_s) / 4
        return True

    def delivered(self, batch: DownloadBatch, peer: P) -> None:
        """Note that what a peer answered is sound: its window grows by one."""
        del self._open[batch.number]
        self._refused.pop(batch.number, None)
        self._windows[peer] = min(self._windows[peer] + 1, self._largest_window)

    def failed(self, batch: DownloadBatch, peer: P) -> None:
        """Note that a peer did not deliver: its window halves, and somebody else is asked."""
        self._windows[peer] = max(1, self._windows[peer] // 2)
        asked = self._open.get(batch.number)
        if asked is None:
            return
        self._refused.setdefault(batch.number, set()).add(peer)
        del asked.asked[peer]
        if asked.here == peer:
            asked.here = None
        if asked.asked:
            return
        del self._open[batch.number]
        # Lowest first: it holds up all that is above it.
        at = next(
            (n for n, other in enumerate(self._waiting) if other.number > batch.number),
            len(self._waiting),
        )
        self._waiting.insert(at, batch)

    def took_in(self, number: int) -> None:
        """Note that all batches up to this one are connected: later ones may be asked for."""
        self._taken_in = max(self._taken_in, number + 1)

    def is_stuck(self, peers: Collection[P]) -> bool:
        """Return whether some batch waits that each of these peers has failed to deliver."""
        return any(set(peers) <= self._refused.get(batch.number, set()) for batch in self._waiting)

    def _has_room(self, peer: P) -> bool:
        busy = sum(peer in it.asked and it.here != peer for it in self._open.values())
        return busy < self._windows.setdefault(peer, self._first_window)

    def _ask(self, peer: P, asked: _Open[P], now: float) -> DownloadBatch:
        asked.asked[peer] = asked.last_asked = now
        return asked.batch

    def _late_for(self, peer: P) -> Iterator[_Open[P]]:
        """Yield what a peer may be asked for while others are, lowest first."""
        for number in sorted(self._open):
            asked = self._open[number]
            if (
                asked.here is None
                and peer not in asked.asked
                and peer not in self._refused.get(number, ())
            ):
                yield asked

    def _hedge_at(self, asked: _Open[P]) -> float:
        return asked.last_asked + max(self._hedge_s, HEDGE_FACTOR * self._usual_s)


class SyncProgress:
    """Rate and time to go, from the heights reached in the last minute. Times in seconds."""

    def __init__(self, window_s: float = 60.0) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, height: int) -> None:
        """Note the height reached."""
        self._seen.append((now, height))
        while len(self._seen) > 2 and now - self._seen[0][0] > self._window_s:
            self._seen.popleft()

    def rate(self) -> float:
        """Return anchors per second."""
        if len(self._seen) < 2:
            return 0.0
        (began, low), (ended, high) = self._seen[0], self._seen[-1]
        return (high - low) / (ended - began) if ended > began else 0.0

    def eta_s(self, target_height: int) -> float | None:
        """Return the seconds until a height is reached, None while that is unknown."""
        rate = self.rate()
        if not self._seen or rate <= 0:
            return None
        return max(0.0, (target_height - self._seen[-1][1]) / rate)
