"""Messages of a topic that wait for validation: a line for each sender; senders take turns."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from unchained.node.transport.contract import MessageId, PeerId, TopicLimits


@dataclass(frozen=True, slots=True)
class ValidationJob:
    """A message to be validated, and who sent it first."""

    topic: str
    data: bytes
    id: MessageId
    peer: PeerId


class ValidationQueue:
    """Bounded in number and bytes. Who has most of what there is too much of gives way."""

    def __init__(self, limits: TopicLimits) -> None:
        self._limits = limits
        self._lines: OrderedDict[PeerId, deque[ValidationJob]] = OrderedDict()
        self._bytes: Counter[PeerId] = Counter()
        self._waiting = 0
        self._running: Counter[PeerId] = Counter()

    def push(self, job: ValidationJob) -> list[ValidationJob]:
        """Let a message wait; return those that are dropped for it."""
        self._lines.setdefault(job.peer, deque()).append(job)
        self._bytes[job.peer] += len(job.data)
        self._waiting += 1
        dropped = []
        while self._waiting > self._limits.max_waiting:
            longest = max(self._lines, key=lambda peer: len(self._lines[peer]))
            dropped.append(self._take(longest, newest=True))
        while self._bytes.total() > self._limits.max_waiting_bytes:
            largest = max(self._lines, key=lambda peer: self._bytes[peer])
            dropped.append(self._take(largest, newest=True))
        return dropped

    def begin(self) -> ValidationJob | None:
        """Return the next message to validate, if one may be now; `end` must follow."""
        if self._running.total() >= self._limits.max_validating:
            return None
        for peer in self._lines:
            if self._running[peer] < self._limits.max_per_peer:
                job = self._take(peer)
                if peer in self._lines:
                    self._lines.move_to_end(peer)
                self._running[peer] += 1
                return job
        return None

    def end(self, job: ValidationJob) -> None:
        """Note that a message is validated."""
        self._running[job.peer] -= 1
        if not self._running[job.peer]:
            del self._running[job.peer]

    def drop(self, peer: PeerId) -> list[ValidationJob]:
        """Return what waits of a peer; it waits no more."""
        return [self._take(peer) for _ in range(len(self._lines.get(peer, ())))]

    def _take(self, peer: PeerId, *, newest: bool = False) -> ValidationJob:
        line = self._lines[peer]
        job = line.pop() if newest else line.popleft()
        self._waiting -= 1
        self._bytes[peer] -= len(job.data)
        if not line:
            del self._lines[peer], self._bytes[peer]
        return job
