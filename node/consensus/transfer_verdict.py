"""What a transfer's bytes alone decide, whatever chain it stands on: found out once.

Decoding, the context-free checks, conditions and signatures depend on nothing but the bytes, and
the wid is the hash of all of them: a verdict never changes, whatever chain the transfer stands
on (Protocol §5.1). The signatures are by far the most expensive part of connecting an anchor.
"""

from __future__ import annotations

import msgspec

from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import (
    check_conditions,
    check_signatures,
    check_transfer_alone,
    decode_transfer,
)
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import Wid


class TransferVerdict(msgspec.Struct, frozen=True, gc=False):
    """The first rule of each stage that a transfer breaks, None where it breaks none.

    `alone` covers decoding up to `BAD_ORDER`; `witness` conditions and signatures, and is not
    looked at where `alone` fails (Protocol §8.3).
    """

    alone: ProtocolError | None
    witness: ProtocolError | None

    def raise_alone(self) -> None:
        """Raise what the transfer breaks by itself, if anything."""
        if self.alone is not None:
            raise _fresh(self.alone)

    def raise_witness(self) -> None:
        """Raise what its conditions and signatures break, if anything."""
        if self.witness is not None:
            raise _fresh(self.witness)


class ProvenTransfer(msgspec.Struct, frozen=True, gc=False):
    """A transfer that breaks no rule which its bytes alone decide: decoded, and its signatures
    verified.

    What has been proven is a type, so that nobody can forget to verify a signature, or do it twice.
    `ValidatedTransfer.proven` makes one, and what remembers those.
    """

    sized: SizedTransfer


class ValidatedTransfer(msgspec.Struct, frozen=True, gc=False):
    """What a transfer's bytes are found to be: decoded, None where they do not decode; the verdict;
    how many bytes there are."""

    sized: SizedTransfer | None
    verdict: TransferVerdict
    length: int

    @classmethod
    def of(cls, proven: ProvenTransfer) -> ValidatedTransfer:
        """Return what a proven transfer was found to be."""
        return cls(proven.sized, _GOOD, len(proven.sized.raw))

    @property
    def is_good(self) -> bool:
        """Whether the transfer breaks none of these rules."""
        return self.verdict.alone is None and self.verdict.witness is None

    def proven(self) -> ProvenTransfer:
        """Return the transfer as one that is proven. Raises the `ProtocolError` that it breaks."""
        self.verdict.raise_alone()
        self.verdict.raise_witness()
        assert self.sized is not None, "what is fit by itself decodes"
        return ProvenTransfer(self.sized)


_GOOD = TransferVerdict(None, None)


def validate_transfer(raw: bytes, network: Network, wid: Wid | None = None) -> ValidatedTransfer:
    """Decode a transfer and validate it by its bytes: some 0.2 ms for each signature, without the
    GIL. `wid` is that of the bytes, if the caller knows it."""
    try:
        sized = decode_transfer(raw, wid)
    except ProtocolError as error:
        return ValidatedTransfer(None, TransferVerdict(error.with_traceback(None), None), len(raw))
    return validate_decoded(sized, network)


def validate_decoded(sized: SizedTransfer, network: Network) -> ValidatedTransfer:
    """Validate a transfer that `decode_transfer` has returned."""
    return ValidatedTransfer(sized, _verdict_on(sized, network), len(sized.raw))


def _verdict_on(sized: SizedTransfer, network: Network) -> TransferVerdict:
    try:
        check_transfer_alone(sized.transfer, network)
    except ProtocolError as error:
        return TransferVerdict(error.with_traceback(None), None)
    try:
        check_conditions(sized.transfer)
        check_signatures(sized)
    except ProtocolError as error:
        return TransferVerdict(None, error.with_traceback(None))
    return _GOOD


def _fresh(error: ProtocolError) -> ProtocolError:
    """Copy an error: raising one object twice would grow its traceback for ever."""
    return type(error)(expected=error.expected, actual=error.actual)
