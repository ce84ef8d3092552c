"""Programs: what happens to a few nodes, step by step, in a language small enough to be drawn.

A program is a network and some steps; any bytes are one, and nothing that a program says is out of
place: an operand picks among what is there, the latest first, so that zeros are the simplest choice
everywhere. What is forged is forged on purpose, by an operand that says so.

    program = network u8 ‖ order u8 ‖ steps, 6 bytes each: operation ‖ five operands
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

HEAD_BYTES: Final = 2

STEP_BYTES: Final = 6

STEPS_MAX: Final = 96
"""Steps of a program; what comes after them is not looked at."""


class Operation(enum.Enum):
    """What a step does, and the names of its operands."""

    COIN = ("on", "time", "key", "luck", "fault")
    """Mine a coin bound to an anchor, or forge some of its fields."""
    ANCHOR = ("on", "time", "take", "carry", "fault")
    """Mine an anchor that lists coins and transfers, or forge some of it, or of its body."""
    GROW = ("on", "count", "time")
    """Mine some anchors on top of one another."""
    LIST = ("coin", "place")
    """The next anchor lists a coin, whether it may or not."""
    TRANSFER = ("on", "coin", "shape", "fee", "fault")
    """Spend a coin of the state after an anchor, or forge some of it."""
    CASCADE = ("on", "coin", "count")
    """Spend a coin, then what that creates, and so on."""
    DELIVER = ("node", "coin", "form", "at")
    """Give a node a coin, or its body, or something that looks like it."""
    SPREAD = ("node", "order")
    """Give a node all that there is, in some order."""
    OFFER = ("node", "transfer", "more")
    """Give transfers to a node's mempool."""
    CLOCK = ("minutes",)
    """The clocks of all nodes go on."""
    RESTART = ("node",)
    """A node ends where it is, and is opened again on its disk."""
    CRASH = ("node", "kept")
    """A power cut: of what a node has not synced, only so many of the first batches stay."""


OPERATIONS: Final = tuple(Operation)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: each operand is 0 to 255."""

    operation: Operation
    operands: tuple[int, ...]

    def __getitem__(self, name: str) -> int:
        names: tuple[str, ...] = self.operation.value
        return self.operands[names.index(name)]

    @classmethod
    def of(cls, operation: Operation, **operands: int) -> Step:
        """Return a step by the names of its operands; those left out are 0."""
        unknown = operands.keys() - set(operation.value)
        if unknown:
            raise ValueError(f"{operation.name.lower()} has no operand {min(unknown)!r}")
        return cls(operation, tuple(operands.get(name, 0) for name in operation.value))

    def to_bytes(self) -> bytes:
        """Return the step's six bytes."""
        head = bytes((OPERATIONS.index(self.operation), *self.operands))
        return head.ljust(STEP_BYTES, b"\0")

    def __str__(self) -> str:
        said = (f" {name}={self[name]}" for name in self.operation.value if self[name])
        return self.operation.name.lower() + "".join(said)


class Program(NamedTuple):
    """The number of a network, steps, and the order in which a node that comes last hears of
    everything."""

    network: int
    steps: Sequence[Step]
    order: int = 0

    @classmethod
    def from_bytes(cls, raw: bytes) -> Program:
        """Return the program of any bytes."""
        network, order = raw[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0")
        rest = raw[HEAD_BYTES:][: STEPS_MAX * STEP_BYTES]
        steps = []
        for start in range(0, len(rest), STEP_BYTES):
            number, *operands = rest[start : start + STEP_BYTES].ljust(STEP_BYTES, b"\0")
            operation = OPERATIONS[number % len(OPERATIONS)]
            steps.append(Step(operation, tuple(operands[: len(operation.value)])))
        return cls(network, tuple(steps), order)

    @staticmethod
    def parts(raw: bytes) -> list[bytes]:
        """Return what some bytes are made of, as a program: its head, then its steps."""
        starts = range(HEAD_BYTES, len(raw), STEP_BYTES)
        return [raw[:HEAD_BYTES], *(raw[start : start + STEP_BYTES] for start in starts)]

    def to_bytes(self) -> bytes:
        """Return bytes that are this program."""
        return bytes((self.network, self.order)) + b"".join(step.to_bytes() for step in self.steps)

    def __str__(self) -> str:
        order = f" order={self.order}" if self.order else ""
        return "\n".join((f"network {self.network}{order}", *map(str, self.steps)))

    @classmethod
    def from_text(cls, text: str) -> Program:
        """Return the program that `str` has shown so. Raises ValueError."""
        first, *lines = (line for line in text.splitlines() if line and line[0] != "#")
        word, number, *rest = first.split()
        if word != "network":
            raise ValueError(f"a program begins with its network, not {word!r}")
        order = int("".join(rest).removeprefix("order=") or 0)
        steps = []
        for line in lines:
            name, *said = line.split()
            pairs = (one.split("=") for one in said)
            operands = {operand: int(value) for operand, value in pairs}
            steps.append(Step.of(Operation[name.upper()], **operands))
        return cls(int(number), tuple(steps), order)
