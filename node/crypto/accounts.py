"""Accounts: every key of a user from 24 words (Protocol §9; BIP 39).

MnemonicError                 not a mnemonic that keys are derived from
├── MnemonicLengthError       not 24 words
├── MnemonicWordError         a word that is not on the list
└── MnemonicChecksumError     24 words of the list whose checksum is wrong

No error repeats a word: a mnemonic with one wrong word is a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final

from mnemonic import Mnemonic

from unchained.node.crypto.keys import SpendKey, ViewKey
from unchained.node.primitives.conditions import KeyCondition, lock_of
from unchained.node.primitives.hashing import ACCOUNT, MINE, MINE_SALT, SPEND, VIEW_D, VIEW_Z
from unchained.node.primitives.types import KeyHash, Lock

MNEMONIC_WORDS: Final = 24
"""Words of a mnemonic."""

ENTROPY_SIZE: Final = 32
"""Random bytes behind a mnemonic."""

SEED_SIZE: Final = 64
"""Bytes of a BIP 39 seed."""

MAX_ACCOUNT_INDEX: Final = 2**32 - 1
"""The last account of a seed."""


class MnemonicError(ValueError):
    """The words are not a mnemonic."""


class MnemonicLengthError(MnemonicError):
    """The number of words is not 24."""


class MnemonicWordError(MnemonicError):
    """A word is not on BIP 39's English list. `position` counts from 1."""

    def __init__(self, position: int) -> None:
        super().__init__(f"word {position} of the mnemonic is not on BIP 39's English list")
        self.position = position


class MnemonicChecksumError(MnemonicError):
    """All words are on the list, but their checksum is wrong: mistyped, or in another order."""


@cache
def english() -> Mnemonic:
    """Return BIP 39's English list, which is read from a file of the library."""
    return Mnemonic("english")


def new_mnemonic(entropy: bytes) -> str:
    """Return the 24 words of 32 random bytes. Raises ValueError for another length."""
    if len(entropy) != ENTROPY_SIZE:
        raise ValueError(f"a mnemonic has {ENTROPY_SIZE} bytes of entropy, got {len(entropy)}")
    return english().to_mnemonic(entropy)


def mnemonic_seed(mnemonic: str, passphrase: str = "") -> bytes:
    """Return the BIP 39 seed, 64 bytes, of 24 words in whatever case and spacing.

    Takes some milliseconds, by design. Raises `MnemonicError`.
    """
    words = Mnemonic.normalize_string(mnemonic).lower().split()
    if len(words) != MNEMONIC_WORDS:
        raise MnemonicLengthError(f"a mnemonic has {MNEMONIC_WORDS} words, got {len(words)}")
    known = frozenset(english().wordlist)
    for position, word in enumerate(words, start=1):
        if word not in known:
            raise MnemonicWordError(position)
    phrase = " ".join(words)
    if not english().check(phrase):
        raise MnemonicChecksumError(
            "the mnemonic's checksum is wrong: a word is mistyped or out of place"
        )
    return Mnemonic.to_seed(phrase, passphrase)


def mining_salt(mine_secret: bytes, parent: bytes, time_ms: int) -> bytes:
    """Return the salt of the lock of a coin mined on `parent` with this header time."""
    return MINE_SALT(mine_secret + parent + time_ms.to_bytes(8, "big"))


def mining_lock(mine_secret: bytes, key_hash: KeyHash, parent: bytes, time_ms: int) -> Lock:
    """Return the lock of a coin mined on `parent` with this header time."""
    return lock_of(KeyCondition(key_hash).to_bytes(), mining_salt(mine_secret, parent, time_ms))


@dataclass(frozen=True, slots=True, eq=False)
class WatchAccount:
    """What finds an account's coins, and mines to it, without being able to spend."""

    chain_id: int
    view: ViewKey
    key_hash: KeyHash
    mine_secret: bytes = field(repr=False)

    def mining_salt(self, parent: bytes, time_ms: int) -> bytes:
        """Return the salt of the lock of a coin mined on `parent` with this header time."""
        return mining_salt(self.mine_secret, parent, time_ms)

    def mining_lock(self, parent: bytes, time_ms: int) -> Lock:
        """Return the lock of a coin mined on `parent` with this header time."""
        return mining_lock(self.mine_secret, self.key_hash, parent, time_ms)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """One account of a seed on one network."""

    chain_id: int
    index: int
    spend: SpendKey
    view: ViewKey
    mine_secret: bytes = field(repr=False)

    @property
    def key_hash(self) -> KeyHash:
        """Names the account to those who pay it."""
        return self.spend.key_hash

    def watch(self) -> WatchAccount:
        """Return the account without the power to spend."""
        return WatchAccount(self.chain_id, self.view, self.key_hash, self.mine_secret)


def derive_account(seed: bytes, chain_id: int, index: int) -> Account:
    """Derive account `index`, a u32, of a BIP 39 seed. Raises ValueError naming what is wrong."""
    if len(seed) != SEED_SIZE:
        raise ValueError(f"a BIP 39 seed has {SEED_SIZE} bytes, got {len(seed)}")
    if not 0 <= index <= MAX_ACCOUNT_INDEX:
        raise ValueError(f"an account's index is 0 to {MAX_ACCOUNT_INDEX}, got {index}")
    # Protocol §9
    account = ACCOUNT(seed + chain_id.to_bytes(4, "big") + index.to_bytes(4, "big"))
    return Account(
        chain_id,
        index,
        SpendKey.from_seed(SPEND(account)),
        ViewKey.from_seed(VIEW_D(account) + VIEW_Z(account)),
        MINE(account),
    )
