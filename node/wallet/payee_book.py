"""Names: of payees, so that they are paid by them, and of a wallet's own accounts.

A name is told apart from what it stands for by its form: no address, paycode, contract or lock is
one. It is sealed in the wallet's file, beside labels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.crypto.addresses import PayeeError, check_not_cut
from unchained.node.wallet.errors import (
    BadPaymentError,
    NoSuchPayeeError,
    PayeeBookError,
    UnconfirmedPayeeError,
)
from unchained.node.wallet.payment_request import draft_for, payee_of
from unchained.node.wallet.records import Payee
from unchained.node.wallet.user_records import unconfirmed
from unchained.node.wallet.wallet_store import WalletStore

NAME_CHARS_MAX: Final = 40
"""Characters of a name: fewer than an address has."""

PAYEES_MAX: Final = 4_096
"""Payees of one address book."""

_NAME: Final = re.compile(r"[^\W\d_](?:[\w .'-]{0,38}[\w.])?")
_PAYEE: Final = "payee"
_UNCONFIRMED: Final = unconfirmed(_PAYEE)
_KINDS: Final = "kind IN ('payee', 'unconfirmed payee')"

_entry = msgspec.msgpack.Decoder(tuple[str, str, str])


class NamedPayee(msgspec.Struct, frozen=True, gc=False):
    """A payee of the address book: what he is called, whom to pay, and what the user notes.
    Unconfirmed, he came out of a backup, and is not paid by his name."""

    name: str
    payee: str
    label: str
    confirmed: bool = True


def checked_name(name: str) -> str:
    """Return a name in its one Unicode form. Raises `PayeeBookError` for what is none."""
    normal = unicodedata.normalize("NFC", name)
    if _NAME.fullmatch(normal) is None:
        raise PayeeBookError(
            f"{name[:NAME_CHARS_MAX]!r} is no name: expected a letter first, then letters, digits, "
            f"spaces, . ' - or _, at most {NAME_CHARS_MAX}"
        )
    try:
        check_not_cut(normal)
    except PayeeError as error:
        raise PayeeBookError(f"no name: {error}") from None
    return normal


def looks_like_name(text: str) -> bool:
    """Return whether a text can be a name, and so is nothing that is paid by itself, nor what is
    left of an address or a paycode."""
    try:
        checked_name(text)
    except PayeeBookError:
        return False
    return True


class PayeeBook:
    """The payees of one wallet, by name."""

    def __init__(self, store: WalletStore, network: Network) -> None:
        self._store = store
        self._network = network

    def add(self, name: str, payee: str, label: str = "") -> NamedPayee:
        """Name a payee. Raises `PayeeBookError` for a name that is taken or none, and
        `BadPaymentError` for what is no payee."""
        entry = NamedPayee(checked_name(name), payee, label)
        payee_of(self._network, payee)
        store, key = self._store, self._key(entry.name)
        with store.transaction():
            if store.rows(f"SELECT 1 FROM labels WHERE {_KINDS} AND key = ?", key):  # noqa: S608
                raise PayeeBookError(
                    f"{entry.name!r} is in the address book already: remove it first"
                )
            (count,) = store.rows(f"SELECT count(*) FROM labels WHERE {_KINDS}")[0]  # noqa: S608
            if count >= PAYEES_MAX:
                raise PayeeBookError(f"an address book has at most {PAYEES_MAX} payees")
            sealed = store.sealer.seal((entry.name, entry.payee, entry.label), key)
            store.run("INSERT INTO labels VALUES (?, ?, ?)", _PAYEE, key, sealed)
        return entry

    def remove(self, name: str) -> None:
        """Forget a payee's name. Raises `NoSuchPayeeError`, `PayeeBookError` for what is no
        name."""
        key = self._key(name)
        if not self._store.run(f"DELETE FROM labels WHERE {_KINDS} AND key = ?", key):  # noqa: S608
            raise NoSuchPayeeError(checked_name(name))

    def confirm(self, name: str) -> NamedPayee:
        """Take a payee who came out of a backup for who he is, and return him. Raises
        `NoSuchPayeeError`, `PayeeBookError` for what is no name."""
        self._store.run(
            "UPDATE labels SET kind = ? WHERE kind = ? AND key = ?",
            _PAYEE,
            _UNCONFIRMED,
            self._key(name),
        )
        return self.find(name)

    def entries(self) -> list[NamedPayee]:
        """Return the payees, by name."""
        rows = self._store.rows(f"SELECT kind, key, secret FROM labels WHERE {_KINDS}")  # noqa: S608
        return sorted((self._read(*row) for row in rows), key=lambda entry: entry.name.casefold())

    def _read(self, kind: str, key: bytes, secret: bytes) -> NamedPayee:
        name, payee, label = self._store.sealer.unseal(secret, key, _entry)
        return NamedPayee(name, payee, label, kind == _PAYEE)

    def find(self, name: str) -> NamedPayee:
        """Return a payee by name, in whatever case. Raises `NoSuchPayeeError`, `PayeeBookError` for
        what is no name."""
        key = self._key(name)
        rows = self._store.rows(
            f"SELECT kind, key, secret FROM labels WHERE {_KINDS} AND key = ?",  # noqa: S608
            key,
        )
        if not rows:
            raise NoSuchPayeeError(checked_name(name))
        return self._read(*rows[0])

    def names(self) -> dict[str, str]:
        """Return what payees are called, by what is paid; but those that are not confirmed."""
        return {entry.payee: entry.name for entry in reversed(self.entries()) if entry.confirmed}

    def resolve(self, payee: Payee) -> Payee:
        """Return a payee with what his name stands for, if he is named by one. Raises
        `NoSuchPayeeError`, `UnconfirmedPayeeError`, and `BadPaymentError` for an address or a
        paycode that was cut."""
        try:
            check_not_cut(payee.payee)
        except PayeeError as error:
            raise BadPaymentError(str(error)) from None
        if not looks_like_name(payee.payee):
            return payee
        try:
            found = self.find(payee.payee)
        except NoSuchPayeeError:
            more = ", and it is no address or paycode"
            raise NoSuchPayeeError(payee.payee, more) from None
        if not found.confirmed:
            raise UnconfirmedPayeeError(found.name)
        return msgspec.structs.replace(payee, payee=found.payee, name=found.name)

    def resolve_all(self, payees: Sequence[Payee]) -> list[Payee]:
        """Return payees as `resolve` does, all of whom can be paid. Raises what that does;
        `BadPaymentError` tells which of several it is about."""
        found = []
        for number, payee in enumerate(payees, 1):
            try:
                found.append(self.resolve(payee))
                draft_for(self._network, found[-1])
            except BadPaymentError as error:
                which = f"payment {number}: " if len(payees) > 1 else ""
                raise BadPaymentError(f"{which}{error}") from None
        return found

    def _key(self, name: str) -> bytes:
        return self._store.sealer.key_of(unicodedata.normalize("NFC", name).casefold())


class AccountNames:
    """What the accounts of one wallet are called."""

    def __init__(self, store: WalletStore) -> None:
        self._store = store

    def name(self, account: int) -> str:
        """Return an account's name, nothing where it has none."""
        return self._store.label("account", account.to_bytes(4, "big"))

    def set_name(self, account: int, name: str) -> None:
        """Name an account; an empty name takes the name away. Raises `PayeeBookError` for a name
        that is none, or another account's."""
        chosen = checked_name(name) if name else ""
        with self._store.transaction():
            taken = None if not chosen else self.find(chosen)
            if taken not in (None, account):
                raise PayeeBookError(f"account {taken} is called {chosen!r} already")
            self._store.set_label("account", account.to_bytes(4, "big"), chosen)

    def find(self, name: str) -> int | None:
        """Return the account of a name, in whatever case."""
        wanted = unicodedata.normalize("NFC", name).casefold()
        for (key,) in self._store.rows("SELECT key FROM labels WHERE kind = 'account'"):
            if self._store.label("account", key).casefold() == wanted:
                return int.from_bytes(key, "big")
        return None
