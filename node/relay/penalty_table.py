"""One table: what an error says of the message and of its sender (Protocol §11).

`verdict` is for gossip. `alone` is the penalty for an object that came by itself, `served` the one
for a chain of headers, bodies and coins that a peer gave when asked: there nothing depends on
one's view of the chain but the clock and what is missing. An error that is not in the table is a
bug: looking it up raises `LookupError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from unchained.node.consensus import errors as rules
from unchained.node.consensus.policy import (
    DustError,
    FeeTooLowError,
    ReplacementTooCheapError,
    TooManyAncestorsError,
    TooManyDescendantsError,
)
from unchained.node.peers.penalty import Penalty
from unchained.node.transport.contract import Verdict


class PenaltyDecision(msgspec.Struct, frozen=True, gc=False):
    """What follows from an error."""

    verdict: Verdict
    alone: Penalty
    served: Penalty


_BAN: Final = PenaltyDecision(Verdict.REJECT, Penalty.BAN, Penalty.BAN)
"""Protocol §11: a forged mix, a bad signature or a non-canonical encoding bans at once."""
_WRONG: Final = PenaltyDecision(Verdict.REJECT, Penalty.FAULT, Penalty.FAULT)
"""Wrong whatever one's view of the chain."""
_VIEW: Final = PenaltyDecision(Verdict.IGNORE, Penalty.COST, Penalty.FAULT)
"""Depends on the view of the chain; not so above a known anchor, where its header is known."""
_TOO_SOON: Final = PenaltyDecision(Verdict.DEFER, Penalty.COST, Penalty.COST)
"""Depends on the clock: it may come again, and will be another thing then."""
_NOT_YET: Final = PenaltyDecision(Verdict.IGNORE, Penalty.COST, Penalty.COST)
"""Nobody's fault, or not to be decided yet: it costs the sender the time that it took."""
_LISTED: Final = PenaltyDecision(Verdict.IGNORE, Penalty.COST, Penalty.COST)
"""Found out when an anchor is connected: never the fault of who relayed it (Protocol §5.3)."""

PENALTIES: Final[Mapping[type[Exception], PenaltyDecision]] = MappingProxyType(
    {
        rules.NonCanonicalError: _BAN,
        rules.BadConditionError: _WRONG,
        # Coins
        rules.BadLengthError: _BAN,
        rules.BadVersionError: _WRONG,
        rules.WrongChainError: _WRONG,
        rules.HighHashError: _WRONG,
        rules.UnknownParentError: _NOT_YET,
        rules.ParentNotAnchorError: _WRONG,
        rules.ParentInvalidError: _NOT_YET,
        rules.BadHeightError: _WRONG,
        rules.StaleParentError: _NOT_YET,
        rules.BadNTotalError: _VIEW,
        rules.BadTargetError: _VIEW,
        rules.TimeNotAfterParentError: _WRONG,
        rules.TimeTooNewError: _TOO_SOON,
        rules.BadMixError: _BAN,
        # Anchors
        rules.NotAnchorError: _WRONG,
        rules.BodyMissingError: _NOT_YET,
        rules.BadBodyRootError: _WRONG,
        rules.TooManyCoinsError: _WRONG,
        rules.TooManyTransfersError: _WRONG,
        rules.BadOrderError: _WRONG,
        rules.BadHistoryRootError: _WRONG,
        rules.AlreadyIncludedError: _WRONG,
        # Of the anchor's own time, not of a clock.
        rules.ListedTooNewError: _WRONG,
        rules.FreshWrongParentError: _WRONG,
        rules.UncleHighHashError: _WRONG,
        rules.UncleOutOfWindowError: _WRONG,
        rules.UncleBadAncestryError: _WRONG,
        rules.BadStateRootError: _LISTED,
        rules.BodyTooLargeError: _LISTED,
        # Transfers
        rules.TransferTooLargeError: _WRONG,
        rules.NoInputsError: _WRONG,
        rules.NoOutputsError: _WRONG,
        rules.TooManyInputsError: _WRONG,
        rules.TooManyOutputsError: _WRONG,
        rules.DuplicateInputError: _WRONG,
        rules.BadNoteError: _WRONG,
        rules.ZeroValueError: _WRONG,
        rules.ValueOverflowError: _WRONG,
        rules.LockedUntilHeightError: _NOT_YET,
        rules.CoinUnknownError: _NOT_YET,
        rules.CoinSpentError: _NOT_YET,
        rules.ImmatureCoinError: _NOT_YET,
        rules.LockMismatchError: _WRONG,
        # What a late coin is worth depends on the chain.
        rules.FeeMismatchError: _NOT_YET,
        rules.ConditionUnmetError: _WRONG,
        rules.UnusedSignatureError: _WRONG,
        rules.UnusedPreimageError: _WRONG,
        rules.BadSignatureError: _BAN,
        # Relay policy (Protocol §8.4)
        DustError: _NOT_YET,
        FeeTooLowError: _NOT_YET,
        TooManyAncestorsError: _NOT_YET,
        TooManyDescendantsError: _NOT_YET,
        ReplacementTooCheapError: _NOT_YET,
    }
)


def decision_on(error: Exception) -> PenaltyDecision:
    """Return what follows from an error. Raises `LookupError` for one that is not foreseen."""
    found = PENALTIES.get(type(error))
    if found is None:
        raise LookupError(f"no decision on {type(error).__name__}") from error
    return found
