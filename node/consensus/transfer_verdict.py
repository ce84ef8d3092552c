"""What a transfer's bytes alone decide, whatever chain it stands on: judged once.

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
    judged where `alone` fails (Protocol §8.3).
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


def judge_transfer(
    raw: bytes, network: Network, wid: Wid | None = None
) -> tuple[SizedTransfer | None, TransferVerdict]:
    """Judge a transfer by its bytes: some 0.2 ms for each signature, without the GIL.

    `wid` is that of the bytes, if the caller knows it. Returns the transfer too, None if it does
    not decode.
    """
    try:
        sized = decode_transfer(raw, wid)
    except ProtocolError as error:
        return None, TransferVerdict(error.with_traceback(None), None)
    try:
        check_transfer_alone(sized.transfer, network)
    except ProtocolError as error:
        return sized, TransferVerdict(error.with_traceback(None), None)
    try:
        check_conditions(sized.transfer)
        check_signatures(sized)
    except ProtocolError as error:
        return sized, TransferVerdict(None, error.with_traceback(None))
    return sized, TransferVerdict(None, None)


def _fresh(error: ProtocolError) -> ProtocolError:
    """Copy an error: raising one object twice would grow its traceback for ever."""
    return type(error)(expected=error.expected, actual=error.actual)
