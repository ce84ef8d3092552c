"""What is relayed and waits in a mempool: policy, not consensus (Protocol §8.4).

No rule that makes an anchor invalid. It stands beside the rules since mempool and wallet share it:
the wallet makes what the mempools of others will take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Protocol

from unchained.node.base.user_text import user_text
from unchained.node.primitives.errors import told, words_of
from unchained.node.primitives.transfer import SizedTransfer

MIN_FEE_RATE: Final = 1
"""Grains per byte of size below which nothing is relayed."""

DUST: Final = 1_000
"""Grains below which an output is not relayed."""

MAX_ANCESTORS: Final = 25
MAX_DESCENDANTS: Final = 25
"""Unconfirmed transfers that one may build on, and that may build on one."""

MAX_REPLACED: Final = 100
"""Transfers that one replacement may evict, descendants included."""

CAPACITY: Final = 64 << 20
"""Bytes of encoded transfers in a mempool."""

OUTPUTS_MAX: Final = 1 << 17
"""Outputs of all that waits in a mempool: each takes some 350 bytes of memory, ten times what it
takes encoded. Ordinary transfers that fill it have a fifth of that."""

EXPIRY_MS: Final = 72 * 3_600_000
"""Milliseconds after which a transfer is dropped."""

HALVING_MS: Final = 3_600_000
"""Milliseconds in which the minimum fee rate that evictions raised falls by half."""


class PolicyError(Exception):
    """A valid transfer is not relayed. `name` says why; nobody is at fault. The text, which begins
    with the name, is for logs; what people read is `in_words`.

    PolicyError
    ├── DustError                   DUST
    ├── FeeTooLowError              FEE_TOO_LOW
    ├── TooManyAncestorsError       TOO_MANY_ANCESTORS
    ├── TooManyDescendantsError     TOO_MANY_DESCENDANTS
    └── ReplacementTooCheapError    REPLACEMENT_TOO_CHEAP
    """

    name: ClassVar[str]

    def __init__(self, *, expected: object, actual: object) -> None:
        super().__init__(told(self.name, expected, actual))
        self.expected = expected
        self.actual = actual

    def in_words(self) -> str:
        """Return what is wrong without the policy's name, for people."""
        return told(words_of(self), self.expected, self.actual)


@user_text("An output is worth too little to be relayed.")
class DustError(PolicyError):
    name = "DUST"


@user_text("The fee is below the least for which the mempool takes a transfer at present.")
class FeeTooLowError(PolicyError):
    name = "FEE_TOO_LOW"


@user_text("It builds on too many transfers that wait.")
class TooManyAncestorsError(PolicyError):
    name = "TOO_MANY_ANCESTORS"


@user_text("Too many waiting transfers build on one that it builds on.")
class TooManyDescendantsError(PolicyError):
    name = "TOO_MANY_DESCENDANTS"


@user_text("It spends what waiting transfers spend, and does not outbid them.")
class ReplacementTooCheapError(PolicyError):
    name = "REPLACEMENT_TOO_CHEAP"


class Paying(Protocol):
    """A waiting transfer: what it pays, in grains, for which size."""

    @property
    def fee(self) -> int:
        """The fee, grains."""

    @property
    def size(self) -> int:
        """Bytes, as fee rates count them."""


def check_dust(sized: SizedTransfer) -> None:
    """Check that no output is too small to be relayed. Raises `DustError`."""
    # Protocol §8.4: DUST: "outputs under 1,000 grains are not relayed"
    least = min(output.value for output in sized.transfer.outputs)
    if least < DUST:
        raise DustError(expected=f"outputs of at least {DUST} grains", actual=least)


def check_fee_rate(fee: int, size: int, rate: float) -> None:
    """Check a fee against the present minimum in grains per byte. Raises `FeeTooLowError`."""
    # Protocol §8.4: FEE_TOO_LOW: "Minimum fee rate 1 grain per byte of size"
    if fee < rate * size:
        raise FeeTooLowError(
            expected=f"a fee of at least {int(rate * size) + 1} grains", actual=fee
        )


def min_fee_rate(raised_rate: float, raised_ago_ms: int) -> float:
    """Return the least grains per byte of size, so long after evictions raised it to a rate."""
    if raised_rate <= MIN_FEE_RATE:
        return MIN_FEE_RATE
    # Protocol §8.4: "the minimum then becomes the evicted rate + 1, halving hourly"
    halvings = max(0, raised_ago_ms) / HALVING_MS
    return max(float(MIN_FEE_RATE), raised_rate * float(0.5**halvings))


def raised_rate(minimum: float, evicted_rate: float) -> float:
    """Return the minimum in grains per byte after something of a rate had to be evicted."""
    # Protocol §8.4: "the minimum then becomes the evicted rate + 1"
    return max(minimum, evicted_rate + 1)


def check_ancestors(count: int) -> None:
    """Check on how many waiting transfers one builds. Raises `TooManyAncestorsError`."""
    # Protocol §8.4: TOO_MANY_ANCESTORS: "at most 25 unconfirmed ancestors"
    if count > MAX_ANCESTORS:
        raise TooManyAncestorsError(expected=f"at most {MAX_ANCESTORS}", actual=count)


def check_descendants(count: int) -> None:
    """Check how many waiting transfers build on one. Raises `TooManyDescendantsError`."""
    # Protocol §8.4: TOO_MANY_DESCENDANTS: "and 25 descendants"
    if count > MAX_DESCENDANTS:
        raise TooManyDescendantsError(expected=f"at most {MAX_DESCENDANTS} of each", actual=count)


def check_replacement(
    fee: int, size: int, conflicts: Iterable[Paying], evicted: Sequence[Paying]
) -> None:
    """Check that a transfer outbids those that it conflicts with and all that go with them.

    Raises `ReplacementTooCheapError`.
    """
    # Protocol §8.4: REPLACEMENT_TOO_CHEAP: "at most 100, descendants included"
    if len(evicted) > MAX_REPLACED:
        raise ReplacementTooCheapError(
            expected=f"at most {MAX_REPLACED} transfers to evict", actual=len(evicted)
        )
    needed = replacement_fee(size, conflicts, evicted)
    if fee < needed:
        raise ReplacementTooCheapError(expected=f"a fee of {needed} grains", actual=fee)


def replacement_fee(size: int, conflicts: Iterable[Paying], evicted: Iterable[Paying]) -> int:
    """Return the least fee, in grains, of a transfer of a size that replaces others."""
    # Protocol §8.4: "its rate is a quarter above that of each transfer that it conflicts with"
    by_rate = (-(-5 * entry.fee * size // (4 * entry.size)) for entry in conflicts)
    # Protocol §8.4: "its fee exceeds all that it evicts"
    # Protocol §8.4: "by 1 grain per byte of its own size"
    return max([*by_rate, sum(entry.fee for entry in evicted) + MIN_FEE_RATE * size])
