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


class BadLengthError(CoinError):
    """A coin that came by itself is not 198 bytes long."""

    name = "BAD_LENGTH"


class BadVersionError(CoinError):
    """The version of a coin or a transfer is not 1."""

    name = "BAD_VERSION"


class WrongChainError(CoinError):
    """The chain id of a coin, a transfer or an export is another network's."""

    name = "WRONG_CHAIN"


class HighHashError(CoinError):
    """The coin's id is above the target in its own header."""

    name = "HIGH_HASH"


class UnknownParentError(CoinError):
    """The parent, or the parent's body, has not been seen."""

    name = "UNKNOWN_PARENT"


class ParentNotAnchorError(CoinError):
    """The parent is a coin that is not of anchor grade."""

    name = "PARENT_NOT_ANCHOR"


class ParentInvalidError(CoinError):
    """The parent, or an ancestor of it, broke a rule of anchors."""

    name = "PARENT_INVALID"


class BadHeightError(CoinError):
    """The height is not the parent's height + 1."""

    name = "BAD_HEIGHT"


class StaleParentError(CoinError):
    """The parent is more than MAX_REORG below the tip."""

    name = "STALE_PARENT"


class BadNTotalError(CoinError):
    """n_total is not the number of coins counted through the parent (Protocol §6)."""

    name = "BAD_N_TOTAL"


class BadTargetError(CoinError):
    """The target is not the one that the difficulty rule gives (Protocol §7)."""

    name = "BAD_TARGET"


class TimeNotAfterParentError(CoinError):
    """The time is not after the parent's."""

    name = "TIME_NOT_AFTER_PARENT"


class TimeTooNewError(CoinError):
    """The time is more than FUTURE_LIMIT ahead of the local clock: held, no penalty."""

    name = "TIME_TOO_NEW"


class BadMixError(CoinError):
    """The mix is not the Argon2id of the header: a forged proof of work."""

    name = "BAD_MIX"


class AnchorError(ProtocolError):
    """An anchor or its body breaks a rule of Protocol §5."""


class NotAnchorError(AnchorError):
    """The coin is not of anchor grade."""

    name = "NOT_ANCHOR"


class BodyMissingError(AnchorError):
    """The body, or something that it lists, has not been seen: asked for, not invalid."""

    name = "BODY_MISSING"


class BadBodyRootError(AnchorError):
    """The body is not the one that the header commits to: the sender's fault."""

    name = "BAD_BODY_ROOT"


class TooManyCoinsError(AnchorError):
    """More than 16 K coins in a list."""

    name = "TOO_MANY_COINS"


class TooManyTransfersError(AnchorError):
    """More transfers than one for 1,024 bytes of the body limit."""

    name = "TOO_MANY_TRANSFERS"


class BadOrderError(AnchorError):
    """A list that must be strictly ascending is not."""

    name = "BAD_ORDER"


class BadHistoryRootError(AnchorError):
    """history_root is not that of the chain through the anchor's parent."""

    name = "BAD_HISTORY_ROOT"


class AlreadyIncludedError(AnchorError):
    """A listed coin is an anchor of this chain or was listed by one."""

    name = "ALREADY_INCLUDED"


class ListedTooNewError(AnchorError):
    """A listed coin's time is more than FUTURE_LIMIT above the anchor's."""

    name = "LISTED_TOO_NEW"


class FreshWrongParentError(AnchorError):
    """A coin listed as fresh is not bound to the anchor's parent."""

    name = "FRESH_WRONG_PARENT"


class UncleHighHashError(AnchorError):
    """A stray coin's id is above this chain's target at its height."""

    name = "UNCLE_HIGH_HASH"


class UncleOutOfWindowError(AnchorError):
    """An uncle comes more than W anchors after its height."""

    name = "UNCLE_OUT_OF_WINDOW"


class UncleBadAncestryError(AnchorError):
    """An uncle is neither late nor stray by this chain."""

    name = "UNCLE_BAD_ANCESTRY"


class BadStateRootError(AnchorError):
    """state_root is not that of the state after the anchor's parent."""

    name = "BAD_STATE_ROOT"


class BodyTooLargeError(AnchorError):
    """The transfers' bytes, or their sizes, add up to more than the network allows."""

    name = "BODY_TOO_LARGE"


class TransferError(ProtocolError):
    """A transfer breaks a rule of Protocol §8.3."""


class TransferTooLargeError(TransferError):
    """More than 256 KiB encoded."""

    name = "TRANSFER_TOO_LARGE"


class NoInputsError(TransferError):
    """A transfer spends nothing."""

    name = "NO_INPUTS"


class NoOutputsError(TransferError):
    """A transfer creates nothing."""

    name = "NO_OUTPUTS"


class TooManyInputsError(TransferError):
    """More than 1,024 inputs."""

    name = "TOO_MANY_INPUTS"


class TooManyOutputsError(TransferError):
    """More than 256 outputs."""

    name = "TOO_MANY_OUTPUTS"


class DuplicateInputError(TransferError):
    """A coin is spent twice by one transfer."""

    name = "DUPLICATE_INPUT"


class BadNoteError(TransferError):
    """A note is neither empty nor 1,360 bytes long."""

    name = "BAD_NOTE"


class ZeroValueError(TransferError):
    """An output has the value 0."""

    name = "ZERO_VALUE"


class ValueOverflowError(TransferError):
    """Outputs and fee add up to more than 2**63 - 1 grains."""

    name = "VALUE_OVERFLOW"


class LockedUntilHeightError(TransferError):
    """lock_height is above the height of the including anchor."""

    name = "LOCKED_UNTIL_HEIGHT"


class CoinUnknownError(TransferError):
    """An input's coin is not in the coin set."""

    name = "COIN_UNKNOWN"


class CoinSpentError(TransferError):
    """An input's coin was in the coin set and has been spent."""

    name = "COIN_SPENT"


class ImmatureCoinError(TransferError):
    """An input's coin was minted less than MATURITY anchors ago."""

    name = "IMMATURE_COIN"


class LockMismatchError(TransferError):
    """Condition and salt do not hash to the coin's lock."""

    name = "LOCK_MISMATCH"


class FeeMismatchError(TransferError):
    """Inputs are not equal to outputs + fee."""

    name = "FEE_MISMATCH"


class ConditionUnmetError(TransferError):
    """The signatures and preimages do not meet an input's condition."""

    name = "CONDITION_UNMET"


class UnusedSignatureError(TransferError):
    """A signature is used by no input."""

    name = "UNUSED_SIGNATURE"


class UnusedPreimageError(TransferError):
    """A preimage is used by no input."""

    name = "UNUSED_PREIMAGE"


class BadSignatureError(TransferError):
    """A signature does not verify."""

    name = "BAD_SIGNATURE"


class ExportError(ProtocolError):
    """A chain export breaks a rule of Protocol §12."""


class ExportBadMagicError(ExportError):
    """The file does not begin like an export of this version."""

    name = "EXPORT_BAD_MAGIC"


class ExportBadFrameError(ExportError):
    """A frame is cut short or claims more than 8 MiB."""

    name = "EXPORT_BAD_FRAME"


class ExportNotLinkedError(ExportError):
    """A record's anchor does not have the anchor before as its parent."""

    name = "EXPORT_NOT_LINKED"
