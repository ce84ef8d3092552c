"""One error class for every rule of the protocol, under the rule's name.

ProtocolError                    primitives.errors
├── NonCanonicalError            NON_CANONICAL
├── BadConditionError            BAD_CONDITION
├── CoinError
│   ├── BadLengthError           BAD_LENGTH
│   ├── BadVersionError          BAD_VERSION
│   ├── WrongChainError          WRONG_CHAIN
│   ├── HighHashError            HIGH_HASH
│   ├── UnknownParentError       UNKNOWN_PARENT
│   ├── ParentNotAnchorError     PARENT_NOT_ANCHOR
│   ├── ParentInvalidError       PARENT_INVALID
│   ├── BadHeightError           BAD_HEIGHT
│   ├── StaleParentError         STALE_PARENT
│   ├── BadNTotalError           BAD_N_TOTAL
│   ├── BadTargetError           BAD_TARGET
│   ├── TimeNotAfterParentError  TIME_NOT_AFTER_PARENT
│   ├── TimeTooNewError          TIME_TOO_NEW
│   └── BadMixError              BAD_MIX
├── AnchorError
│   ├── NotAnchorError           NOT_ANCHOR
│   ├── BodyMissingError         BODY_MISSING
│   ├── BadBodyRootError         BAD_BODY_ROOT
│   ├── TooManyCoinsError        TOO_MANY_COINS
│   ├── TooManyTransfersError    TOO_MANY_TRANSFERS
│   ├── BadOrderError            BAD_ORDER
│   ├── BadHistoryRootError      BAD_HISTORY_ROOT
│   ├── AlreadyIncludedError     ALREADY_INCLUDED
│   ├── ListedTooNewError        LISTED_TOO_NEW
│   ├── FreshWrongParentError    FRESH_WRONG_PARENT
│   ├── UncleHighHashError       UNCLE_HIGH_HASH
│   ├── UncleOutOfWindowError    UNCLE_OUT_OF_WINDOW
│   ├── UncleBadAncestryError    UNCLE_BAD_ANCESTRY
│   ├── BadStateRootError        BAD_STATE_ROOT
│   └── BodyTooLargeError        BODY_TOO_LARGE
├── TransferError
│   ├── TransferTooLargeError    TRANSFER_TOO_LARGE
│   ├── NoInputsError            NO_INPUTS
│   ├── NoOutputsError           NO_OUTPUTS
│   ├── TooManyInputsError       TOO_MANY_INPUTS
│   ├── TooManyOutputsError      TOO_MANY_OUTPUTS
│   ├── DuplicateInputError      DUPLICATE_INPUT
│   ├── BadNoteError             BAD_NOTE
│   ├── ZeroValueError           ZERO_VALUE
│   ├── ValueOverflowError       VALUE_OVERFLOW
│   ├── LockedUntilHeightError   LOCKED_UNTIL_HEIGHT
│   ├── CoinUnknownError         COIN_UNKNOWN
│   ├── CoinSpentError           COIN_SPENT
│   ├── ImmatureCoinError        IMMATURE_COIN
│   ├── LockMismatchError        LOCK_MISMATCH
│   ├── FeeMismatchError         FEE_MISMATCH
│   ├── ConditionUnmetError      CONDITION_UNMET
│   ├── UnusedSignatureError     UNUSED_SIGNATURE
│   ├── UnusedPreimageError      UNUSED_PREIMAGE
│   └── BadSignatureError        BAD_SIGNATURE
└── ExportError
    ├── ExportBadMagicError      EXPORT_BAD_MAGIC
    ├── ExportBadFrameError      EXPORT_BAD_FRAME
    └── ExportNotLinkedError     EXPORT_NOT_LINKED

`BadVersionError`, `WrongChainError` and `BadOrderError` serve every family that has the rule.
Bugs of ours are never in this tree.
"""

from __future__ import annotations

from unchained.node.base.user_text import user_text
from unchained.node.primitives.errors import BadConditionError, NonCanonicalError, ProtocolError

__all__ = [
    "AlreadyIncludedError",
    "AnchorError",
    "BadBodyRootError",
    "BadConditionError",
    "BadHeightError",
    "BadHistoryRootError",
    "BadLengthError",
    "BadMixError",
    "BadNTotalError",
    "BadNoteError",
    "BadOrderError",
    "BadSignatureError",
    "BadStateRootError",
    "BadTargetError",
    "BadVersionError",
    "BodyMissingError",
    "BodyTooLargeError",
    "CoinError",
    "CoinSpentError",
    "CoinUnknownError",
    "ConditionUnmetError",
    "DuplicateInputError",
    "ExportBadFrameError",
    "ExportBadMagicError",
    "ExportError",
    "ExportNotLinkedError",
    "FeeMismatchError",
    "FreshWrongParentError",
    "HighHashError",
    "ImmatureCoinError",
    "ListedTooNewError",
    "LockMismatchError",
    "LockedUntilHeightError",
    "NoInputsError",
    "NoOutputsError",
    "NonCanonicalError",
    "NotAnchorError",
    "ParentInvalidError",
    "ParentNotAnchorError",
    "ProtocolError",
    "StaleParentError",
    "TimeNotAfterParentError",
    "TimeTooNewError",
    "TooManyCoinsError",
    "TooManyInputsError",
    "TooManyOutputsError",
    "TooManyTransfersError",
    "TransferError",
    "TransferTooLargeError",
    "UncleBadAncestryError",
    "UncleHighHashError",
    "UncleOutOfWindowError",
    "UnknownParentError",
    "UnusedPreimageError",
    "UnusedSignatureError",
    "ValueOverflowError",
    "WrongChainError",
    "ZeroValueError",
]


class CoinError(ProtocolError):
    """A coin breaks a rule of Protocol §3.3."""


@user_text("A coin that came by itself is not 198 bytes long.")
class BadLengthError(CoinError):
    name = "BAD_LENGTH"


@user_text("The version of a coin or a transfer is not 1.")
class BadVersionError(CoinError):
    name = "BAD_VERSION"


@user_text("The chain id of a coin, a transfer or an export is another network's.")
class WrongChainError(CoinError):
    name = "WRONG_CHAIN"


@user_text("The coin's id is above the target in its own header.")
class HighHashError(CoinError):
    name = "HIGH_HASH"


@user_text("The parent, or the parent's body, has not been seen.")
class UnknownParentError(CoinError):
    name = "UNKNOWN_PARENT"


@user_text("The parent is a coin that is not of anchor grade.")
class ParentNotAnchorError(CoinError):
    name = "PARENT_NOT_ANCHOR"


@user_text("The parent, or an ancestor of it, broke a rule of anchors.")
class ParentInvalidError(CoinError):
    name = "PARENT_INVALID"


@user_text("The height is not the parent's height + 1.")
class BadHeightError(CoinError):
    name = "BAD_HEIGHT"


@user_text("The parent is more than MAX_REORG below the tip.")
class StaleParentError(CoinError):
    name = "STALE_PARENT"


@user_text("n_total is not the number of coins counted through the parent (Protocol §6).")
class BadNTotalError(CoinError):
    name = "BAD_N_TOTAL"


@user_text("The target is not the one that the difficulty rule gives (Protocol §7).")
class BadTargetError(CoinError):
    name = "BAD_TARGET"


@user_text("The time is not after the parent's.")
class TimeNotAfterParentError(CoinError):
    name = "TIME_NOT_AFTER_PARENT"


@user_text("The time is more than FUTURE_LIMIT ahead of the local clock: held, no penalty.")
class TimeTooNewError(CoinError):
    name = "TIME_TOO_NEW"


@user_text("The mix is not the Argon2id of the header: a forged proof of work.")
class BadMixError(CoinError):
    name = "BAD_MIX"


class AnchorError(ProtocolError):
    """An anchor or its body breaks a rule of Protocol §5."""


@user_text("The coin is not of anchor grade.")
class NotAnchorError(AnchorError):
    name = "NOT_ANCHOR"


@user_text("The body, or something that it lists, has not been seen: asked for, not invalid.")
class BodyMissingError(AnchorError):
    name = "BODY_MISSING"


@user_text("The body is not the one that the header commits to.")
class BadBodyRootError(AnchorError):
    name = "BAD_BODY_ROOT"


@user_text("More than 16 K coins in a list.")
class TooManyCoinsError(AnchorError):
    name = "TOO_MANY_COINS"


@user_text("More transfers than one for 1,024 bytes of the body limit.")
class TooManyTransfersError(AnchorError):
    name = "TOO_MANY_TRANSFERS"


@user_text("A list that must be strictly ascending is not.")
class BadOrderError(AnchorError):
    name = "BAD_ORDER"


@user_text("history_root is not that of the chain through the anchor's parent.")
class BadHistoryRootError(AnchorError):
    name = "BAD_HISTORY_ROOT"


@user_text("A listed coin is an anchor of this chain or was listed by one.")
class AlreadyIncludedError(AnchorError):
    name = "ALREADY_INCLUDED"


@user_text("A listed coin's time is more than FUTURE_LIMIT above the anchor's.")
class ListedTooNewError(AnchorError):
    name = "LISTED_TOO_NEW"


@user_text("A coin listed as fresh is not bound to the anchor's parent.")
class FreshWrongParentError(AnchorError):
    name = "FRESH_WRONG_PARENT"


@user_text("A stray coin's id is above this chain's target at its height.")
class UncleHighHashError(AnchorError):
    name = "UNCLE_HIGH_HASH"


@user_text("An uncle comes more than W anchors after its height.")
class UncleOutOfWindowError(AnchorError):
    name = "UNCLE_OUT_OF_WINDOW"


@user_text("An uncle is neither late nor stray by this chain.")
class UncleBadAncestryError(AnchorError):
    name = "UNCLE_BAD_ANCESTRY"


@user_text("state_root is not that of the state after the anchor's parent.")
class BadStateRootError(AnchorError):
    name = "BAD_STATE_ROOT"


@user_text("The transfers' bytes, or their sizes, add up to more than the network allows.")
class BodyTooLargeError(AnchorError):
    name = "BODY_TOO_LARGE"


class TransferError(ProtocolError):
    """A transfer breaks a rule of Protocol §8.3."""


@user_text("More than 256 KiB encoded.")
class TransferTooLargeError(TransferError):
    name = "TRANSFER_TOO_LARGE"


@user_text("A transfer spends nothing.")
class NoInputsError(TransferError):
    name = "NO_INPUTS"


@user_text("A transfer creates nothing.")
class NoOutputsError(TransferError):
    name = "NO_OUTPUTS"


@user_text("More than 1,024 inputs.")
class TooManyInputsError(TransferError):
    name = "TOO_MANY_INPUTS"


@user_text("More than 256 outputs.")
class TooManyOutputsError(TransferError):
    name = "TOO_MANY_OUTPUTS"


@user_text("A coin is spent twice by one transfer.")
class DuplicateInputError(TransferError):
    name = "DUPLICATE_INPUT"


@user_text("A note is neither empty nor 1,360 bytes long.")
class BadNoteError(TransferError):
    name = "BAD_NOTE"


@user_text("An output has the value 0.")
class ZeroValueError(TransferError):
    name = "ZERO_VALUE"


@user_text("Outputs and fee add up to more than 2**63 - 1 grains.")
class ValueOverflowError(TransferError):
    name = "VALUE_OVERFLOW"


@user_text("It may not be included yet: its lock_height is above the next anchor's height.")
class LockedUntilHeightError(TransferError):
    name = "LOCKED_UNTIL_HEIGHT"


@user_text(
    "A coin that it spends is unknown: no anchor of this chain brought it, and no transfer "
    "that waits."
)
class CoinUnknownError(TransferError):
    name = "COIN_UNKNOWN"


@user_text("A coin that it spends is spent already.")
class CoinSpentError(TransferError):
    name = "COIN_SPENT"


@user_text("A coin that it spends was minted less than MATURITY anchors ago.")
class ImmatureCoinError(TransferError):
    name = "IMMATURE_COIN"


@user_text("Condition and salt do not hash to the lock of the coin that it spends.")
class LockMismatchError(TransferError):
    name = "LOCK_MISMATCH"


@user_text("The coins that it spends are not worth what it pays and its fee together.")
class FeeMismatchError(TransferError):
    name = "FEE_MISMATCH"


@user_text("The signatures and preimages do not meet the condition of a coin that it spends.")
class ConditionUnmetError(TransferError):
    name = "CONDITION_UNMET"


@user_text("A signature is used by no input.")
class UnusedSignatureError(TransferError):
    name = "UNUSED_SIGNATURE"


@user_text("A preimage is used by no input.")
class UnusedPreimageError(TransferError):
    name = "UNUSED_PREIMAGE"


@user_text("A signature does not verify.")
class BadSignatureError(TransferError):
    name = "BAD_SIGNATURE"


class ExportError(ProtocolError):
    """A chain export breaks a rule of Protocol §12."""


@user_text("The file does not begin like an export of this version.")
class ExportBadMagicError(ExportError):
    name = "EXPORT_BAD_MAGIC"


@user_text("A frame is cut short or claims more than 8 MiB.")
class ExportBadFrameError(ExportError):
    name = "EXPORT_BAD_FRAME"


@user_text("A record's anchor does not have the anchor before as its parent.")
class ExportNotLinkedError(ExportError):
    name = "EXPORT_NOT_LINKED"
