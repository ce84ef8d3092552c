"""Messages of a topic that wait for validation: a line for each sender; senders take turns."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace

from unchained.node.transport.contract import MessageId, PeerId, TopicLimits


@dataclass(frozen=True, slots=True)
class ValidationJob:
    """A message to be validated, and who sent it."""

    topic: str
    data: bytes
    id: MessageId
    peer: PeerId


class ValidationQueue:
    """Bounded in number and bytes of messages. Who has most of what there is too much of gives way.

    A message waits in the lines of all who have sent it, and is validated once: who sends it first,
    behind much else, neither delays it for the others nor has it dropped.
    """

    def __init__(self, limits: TopicLimits) -> None:
        self._limits = limits
        self._lines: OrderedDict[PeerId, OrderedDict[MessageId, ValidationJob]] = OrderedDict()
        self._senders: dict[MessageId, set[PeerId]] = {}
        """In whose lines a message waits."""
        self._bytes: Counter[PeerId] = Counter()
        """Of each line."""
        self._data_bytes = 0
        """Of all that waits, each message counted once: its lines share its data."""
        self._running: Counter[PeerId] = Counter()

    def waits(self, mid: MessageId) -> bool:
        """Return whether a message waits."""
        return mid in self._senders

    def push(self, job: ValidationJob) -> list[ValidationJob]:
        """Let a message wait, in its sender's line; return those that are dropped for it, and wait
        in nobody's line any more."""
        line = self._lines.setdefault(job.peer, OrderedDict())
        if job.id in line:
            return []
        senders = self._senders.setdefault(job.id, set())
        if senders:
            job = replace(job, data=self._lines[next(iter(senders))][job.id].data)
        else:
            self._data_bytes += len(job.data)
        line[job.id] = job
        senders.add(job.peer)
        self._bytes[job.peer] += len(job.data)
        dropped: dict[MessageId, ValidationJob] = {}
        while len(self._senders) > self._limits.max_waiting:
            longest = max(self._lines, key=lambda peer: len(self._lines[peer]))
            newest = next(reversed(self._lines[longest]))
            dropped[newest] = self._take(longest, newest)
        while self._data_bytes > self._limits.max_waiting_bytes:
            largest = max(self._lines, key=lambda peer: self._bytes[peer])
            newest = next(reversed(self._lines[largest]))
            dropped[newest] = self._take(largest, newest)
        return [job for mid, job in dropped.items() if not self.waits(mid)]

    def begin(self) -> ValidationJob | None:
        """Return the next message to validate, if one may be now; `end` must follow."""
        if self._running.total() >= self._limits.max_validating:
            return None
        for peer, line in self._lines.items():
            if self._running[peer] < self._limits.max_per_peer:
                job = self._take(peer, next(iter(line)))
                if peer in self._lines:
                    self._lines.move_to_end(peer)
                for other in tuple(self._senders.get(job.id, ())):
                    self._take(other, job.id)
                self._running[peer] += 1
                return job
        return None

    def end(self, job: ValidationJob) -> None:
        """Note that a message is validated."""
        self._running[job.peer] -= 1
        if not self._running[job.peer]:
            del self._running[job.peer]

    def drop(self, peer: PeerId) -> list[ValidationJob]:
        """Let a peer's line go; return what waits no more."""
        line = tuple(self._lines.get(peer, ()))
        return [job for job in (self._take(peer, mid) for mid in line) if not self.waits(job.id)]

    def _take(self, peer: PeerId, mid: MessageId) -> ValidationJob:
        """Take a message out of one line."""
        line = self._lines[peer]
        job = line.pop(mid)
        self._bytes[peer] -= len(job.data)
        if not line:
            del self._lines[peer], self._bytes[peer]
        senders = self._senders[mid]
        senders.remove(peer)
        if not senders:
            del self._senders[mid]
            self._data_bytes -= len(job.data)
        return job
