"""What seals a wallet's keys anew: worked out beside the wallet, since it takes a second by design,
and put in their place if they are still those that it was worked out of."""

from __future__ import annotations

from typing import Protocol

import msgspec

from unchained.node.base.randomness import Randomness
from unchained.node.wallet.keystore import Keystore
from unchained.node.wallet.wallet_file import WatchKeys


class PresentKeys(msgspec.Struct, frozen=True):
    """A wallet's keys at one moment, and the accounts that it has by then; where salts are drawn
    from."""

    keystore: Keystore
    shown: tuple[WatchKeys, ...]
    randomness: Randomness


class Resealing(Protocol):
    """Something that seals keys anew."""

    def __call__(self, present: PresentKeys, /) -> Keystore:
        """Return the keys sealed anew; takes a second or two, by design, and changes nothing.
        Raises a `KeystoreError`."""


class NewPassphrase(msgspec.Struct, frozen=True):
    """Another passphrase. Raises `WrongPassphraseError`, `WatchOnlyError`,
    `EmptyPassphraseError`."""

    old: str
    new: str
    allow_empty: bool = False

    def __call__(self, present: PresentKeys, /) -> Keystore:
        """Return the keys under the new passphrase."""
        keystore = present.keystore
        return keystore.with_passphrase(
            keystore.unlock(self.old),
            self.new,
            allow_empty=self.allow_empty,
            randomness=present.randomness,
        )


class OneMoreAccount(msgspec.Struct, frozen=True):
    """The next account. Raises `WrongPassphraseError`, `WatchOnlyError`, `AccountLimitError`."""

    passphrase: str

    def __call__(self, present: PresentKeys, /) -> Keystore:
        """Return the keys with one more account, the last."""
        return present.keystore.with_account(
            self.passphrase, present.shown, randomness=present.randomness
        )
