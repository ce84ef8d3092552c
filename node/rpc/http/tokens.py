"""Tokens: rights to one wallet, made and revoked while the node runs, kept in one file.

`rpc.tokens` in the data directory, mode 0600, holds of each token a hash, which wallet and scopes
it is for, and what it has spent in the last 24 hours; the token itself is shown once. A token is
256 random bits: its hash tells nobody anything.

What is spent counts for a day, from when it was sent. A transfer that was signed and handed out may
be sent at any time, by anybody: it counts until the wallet knows that an anchor includes it, and a
day from then on, or until something else has spent its coin. Else who has one day's limit signed
each day could spend all of it in one.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio

from unchained.node.base.clock import Clock
from unchained.node.base.files import write_private
from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.rpc.core.registry import Access, Scope
from unchained.node.rpc.core.rights import Caller, WalletRights
from unchained.node.wallet.errors import SpendingLimitError, TooManySignedError
from unchained.node.wallet.spending import SignedTransfers

TOKENS_FILE: Final = "rpc.tokens"
"""Name of the tokens' file in the data directory."""

SPENDING_DAY_MS: Final = 24 * 60 * 60 * 1000
"""How long what was spent counts against a limit."""

TOKENS_MAX: Final = 1_000
"""Tokens that there can be at a time."""

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of the file that are read: so many that each token can hold all that it may."""

SPENT_EACH_MAX: Final = 96
"""Transfers of a token, the last ones, that are kept one by one; those before are kept as one for
each hour. No bearer fills the file of all."""

SIGNED_MAX: Final = 32
"""Transfers that were signed for a token, and that no anchor includes, at a time."""

PREFIX: Final = "unct_"
"""What a token begins with, so that scanners for leaked secrets know it."""

_SECRET_BYTES: Final = 32
_ID_BYTES: Final = 8
_TOKEN: Final = re.compile(
    rf"{PREFIX}([0-9a-f]{{{2 * _ID_BYTES}}})([0-9a-f]{{{2 * _SECRET_BYTES}}})"
)
_VERSION: Final = 1
_HOUR_MS: Final = 60 * 60 * 1000


class TokenError(ValueError):
    """A file of a token, or of tokens, holds something else; the message is one line for the
    operator."""


class TooManyTokensError(Exception):
    """There are as many tokens as there can be."""

    def __init__(self) -> None:
        super().__init__(f"there are {TOKENS_MAX} tokens already: revoke one")


class Spent(msgspec.Struct, frozen=True):
    """What a transfer takes out of a wallet, in grains, and when it was signed, in ms since 1970;
    `replaces` is the txid of the one whose place it takes. Without a `txid` it stands for all of
    one hour, at the time of the last. With a `coin`, the id of one that it spends, it was handed
    out, and nothing is known of when it was sent."""

    txid: str
    amount: int
    time_ms: int
    replaces: str = ""
    coin: str = ""


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as it is kept. `digest` is the SHA-256 of its secret, `daily_limit` in grains."""

    id: str
    digest: str
    wallet: str
    scopes: tuple[Scope, ...]
    daily_limit: int
    label: str
    created_ms: int
    spent: tuple[Spent, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    tokens: tuple[Token, ...]


class TokenBook:
    """All tokens of a node. Its methods may be called from any thread; those that change something
    return once it is on disk, and raise OSError where it cannot be."""

    def __init__(self, path: Path, clock: Clock, *, randomness: Randomness = SYSTEM) -> None:
        """Read the file, if there is one. Raises `TokenError`, OSError."""
        self._path = path
        self._clock = clock
        self._randomness = randomness
        self._lock = threading.Lock()
        self._tokens = {token.id: token for token in read_tokens(path)}
        self._watches: set[_Watch] = set()
        self._signed_again: set[tuple[str, str]] = set()
        """Tokens and transfers that they were given a second signature of: they count whatever
        becomes of the first."""
        # Another lock, for it is taken in the event loop: not held while the file is written.
        self._watching = threading.Lock()

    def create(
        self, wallet: str, scopes: Iterable[Scope], *, daily_limit: int = 0, label: str = ""
    ) -> tuple[Token, str]:
        """Make a token and return it with its text, which is nowhere else.

        Raises `TooManyTokensError`.
        """
        secret = self._randomness.token_bytes(_SECRET_BYTES)
        made = Token(
            self._randomness.token_bytes(_ID_BYTES).hex(),
            hashlib.sha256(secret).hexdigest(),
            wallet,
            tuple(sorted(set(scopes))),
            daily_limit,
            label,
            self._clock.now_ms(),
        )
        with self._lock:
            if len(self._tokens) >= TOKENS_MAX:
                raise TooManyTokensError
            self._write(self._tokens | {made.id: made})
        return made, f"{PREFIX}{made.id}{secret.hex()}"

    def tokens(self) -> list[Token]:
        """Return all tokens, the oldest first."""
        return sorted(self._tokens.values(), key=lambda token: (token.created_ms, token.id))

    def spent(self, token: Token) -> int:
        """Return the grains that a token has spent in the last 24 hours, and those of what was
        signed for it and is in no anchor yet."""
        return _total(self._counting(token))

    def settle(self, token_id: str, signed: SignedTransfers) -> None:
        """Let what was signed for a token, and handed out, count by when it left the wallet, where
        it has, and no more where it cannot come any more."""
        token = self._tokens.get(token_id)
        if token is None or not any(entry.coin for entry in token.spent):
            return
        now_ms = self._clock.now_ms()
        left = {
            entry.txid: min(left_ms, now_ms)
            for entry in token.spent
            if entry.coin
            and (left_ms := signed.left_ms(bytes.fromhex(entry.txid), bytes.fromhex(entry.coin)))
            is not None
        }
        with self._lock:
            token = self._tokens.get(token_id)
            if token is None or not left:
                return
            spent = tuple(
                msgspec.structs.replace(entry, time_ms=left[entry.txid], coin="")
                if entry.coin and entry.txid in left
                else entry
                for entry in token.spent
            )
            self._put(msgspec.structs.replace(token, spent=spent))

    def revoke(self, token_id: str) -> bool:
        """Forget a token; return whether there was one. Calls under way go on to their end, but
        sign nothing more; streams of events and sessions of browsers end."""
        with self._lock:
            if token_id not in self._tokens:
                return False
            self._write({key: kept for key, kept in self._tokens.items() if key != token_id})
        return True

    def forget_wallet(self, wallet: str) -> None:
        """Revoke all tokens of a wallet: another one may be given its name."""
        with self._lock:
            kept = {key: token for key, token in self._tokens.items() if token.wallet != wallet}
            if len(kept) < len(self._tokens):
                self._write(kept)

    def rename_wallet(self, wallet: str, new: str) -> None:
        """Let the tokens of a wallet stay its own under another name. Those that there are for that
        name already were for a wallet that is gone, and are revoked."""
        with self._lock:
            renamed = {
                key: msgspec.structs.replace(token, wallet=new) if token.wallet == wallet else token
                for key, token in self._tokens.items()
                if token.wallet != new
            }
            if renamed != self._tokens:
                self._write(renamed)

    def caller(self, text: str) -> Caller | None:
        """Return what the bearer of a token may do, None if there is no such token."""
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        # Without the lock: it is held while the file is written, and the event loop asks here.
        found = self._tokens.get(match[1])
        digest = hashlib.sha256(bytes.fromhex(match[2])).hexdigest()
        if found is None or not hmac.compare_digest(digest, found.digest):
            return None
        rights = WalletRights(
            found.wallet,
            frozenset(found.scopes),
            _Allowance(self, found.id),
            _Standing(self, found.id, found.wallet),
        )
        return Caller(Access.PUBLIC, rights)

    def stands(self, token_id: str, wallet: str) -> bool:
        """Return whether there is such a token, for that wallet."""
        token = self._tokens.get(token_id)
        return token is not None and token.wallet == wallet

    async def wait_revoked(self, token_id: str, wallet: str) -> None:
        """Return once there is no such token for that wallet."""
        watch = _Watch(token_id, wallet, trio.Event(), trio.lowlevel.current_trio_token())
        with self._watching:
            self._watches.add(watch)
        try:
            # Looked at after the watch was set, as it is looked for after tokens have changed.
            if self.stands(token_id, wallet):
                await watch.revoked.wait()
        finally:
            with self._watching:
                self._watches.discard(watch)

    def reserve(
        self, token_id: str, txid: bytes, amount: int, replaced: bytes, coin_id: bytes = b""
    ) -> bool:
        """Count a transfer against a token's limit; return whether it had not been counted before.
        With the id of a coin that it spends it is handed out. Raises `SpendingLimitError`,
        `TooManySignedError`."""
        with self._lock:
            token = self._tokens.get(token_id)
            if token is None:
                raise SpendingLimitError(amount, 0, 0)
            kept = self._counting(token)
            known = [entry for entry in kept if entry.txid == txid.hex()]
            is_one_more = bool(coin_id) and not any(entry.coin for entry in known)
            signed = sum(bool(entry.coin) for entry in kept)
            if is_one_more and (known or amount) and signed >= SIGNED_MAX:
                raise TooManySignedError(SIGNED_MAX)
            if known:
                # Signed twice it may be in other hands, whatever comes of the first.
                self._signed_again.add((token_id, txid.hex()))
                if coin_id:
                    self._put(msgspec.structs.replace(token, spent=_held(kept, txid, coin_id)))
                return False
            if not amount:
                # What takes nothing out counts nothing: it is not kept.
                return False
            now_ms = self._clock.now_ms()
            entry = Spent(txid.hex(), amount, now_ms, replaced.hex(), coin_id.hex())
            spent, then = _total(kept), _total([*kept, entry])
            if then > token.daily_limit:
                raise SpendingLimitError(then - spent, spent, token.daily_limit)
            self._put(msgspec.structs.replace(token, spent=_bounded([*kept, entry])))
        return True

    def check(self, token_id: str, amount: int) -> None:
        """Raise `SpendingLimitError` where a token may not spend so many more grains."""
        token = self._tokens.get(token_id)
        spent, limit = (0, 0) if token is None else (self.spent(token), token.daily_limit)
        if spent + amount > limit:
            raise SpendingLimitError(amount, spent, limit)

    def release(self, token_id: str, txid: bytes) -> None:
        """Count a transfer no more."""
        with self._lock:
            token = self._tokens.get(token_id)
            if token is None or (token_id, txid.hex()) in self._signed_again:
                return
            kept = tuple(e for e in self._counting(token) if e.txid != txid.hex())
            if kept != token.spent:
                self._put(msgspec.structs.replace(token, spent=kept))

    def _counting(self, token: Token) -> list[Spent]:
        since = self._clock.now_ms() - SPENDING_DAY_MS
        return [entry for entry in token.spent if entry.coin or entry.time_ms > since]

    def _put(self, token: Token) -> None:
        self._write(self._tokens | {token.id: token})

    def _write(self, tokens: dict[str, Token]) -> None:
        """Write the file, then take it for true: another `dict` each time, so that who reads needs
        no lock. What has expired goes. The caller holds the lock."""
        tokens = {
            key: msgspec.structs.replace(token, spent=tuple(self._counting(token)))
            for key, token in tokens.items()
        }
        content = msgspec.json.format(msgspec.json.encode(_File(_VERSION, tuple(tokens.values()))))
        if len(content) > FILE_BYTES_MAX:
            # It could not be read again, and the node would not start.
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self._path))
        try:
            write_private(self._path, content)
        except OSError as error:
            # a full disk names no file
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._tokens = tokens
        self._signed_again &= {(key, e.txid) for key, token in tokens.items() for e in token.spent}
        with self._watching:
            # A watch is taken off before its loop ends.
            for watch in self._watches:
                if not self.stands(watch.token_id, watch.wallet):
                    watch.loop.run_sync_soon(watch.revoked.set)


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """Somebody who waits in a loop of Trio's for a token to be revoked."""

    token_id: str
    wallet: str
    revoked: trio.Event
    loop: trio.lowlevel.TrioToken


class _Standing:
    """Whether one token is still there, for its wallet."""

    def __init__(self, book: TokenBook, token_id: str, wallet: str) -> None:
        self._book = book
        self._id = token_id
        self._wallet = wallet

    def stands(self) -> bool:
        """Return whether it is."""
        return self._book.stands(self._id, self._wallet)

    async def wait_revoked(self) -> None:
        """Return once it is not."""
        await self._book.wait_revoked(self._id, self._wallet)


class _Allowance:
    """What one token may still spend."""

    def __init__(self, book: TokenBook, token_id: str) -> None:
        self._book = book
        self._id = token_id

    def settle(self, signed: SignedTransfers) -> None:
        """Find out what has become of what was handed out."""
        self._book.settle(self._id, signed)

    def reserve(
        self, txid: bytes, amount: int, replaced: bytes = b"", coin_id: bytes = b""
    ) -> bool:
        """Count a transfer before it is signed; return whether it had not been counted before.
        Raises `SpendingLimitError`, `TooManySignedError`."""
        return self._book.reserve(self._id, txid, amount, replaced, coin_id)

    def check(self, amount: int) -> None:
        """Raise `SpendingLimitError` where the token may not spend so many more grains."""
        self._book.check(self._id, amount)

    def release(self, txid: bytes) -> None:
        """Count a transfer no more."""
        self._book.release(self._id, txid)


def _total(spent: Sequence[Spent]) -> int:
    """Return the grains that entries, the oldest first, count for together. Of transfers that
    replace one another only one can be mined, and the largest of those that still count does: what
    has taken the place of one of yesterday's counts whole."""
    places: dict[str, str] = {}
    largest: dict[str, int] = {}
    for entry in spent:
        # what stands for an hour is known by its time
        place = places.get(entry.replaces, entry.txid or str(entry.time_ms))
        if entry.txid:
            places[entry.txid] = place
        largest[place] = max(largest.get(place, 0), entry.amount)
    return sum(largest.values())


def _held(spent: Iterable[Spent], txid: bytes, coin_id: bytes) -> tuple[Spent, ...]:
    """Return entries of which that of a transfer is handed out."""
    return tuple(
        msgspec.structs.replace(entry, coin=coin_id.hex()) if entry.txid == txid.hex() else entry
        for entry in spent
    )


def _bounded(spent: Sequence[Spent]) -> tuple[Spent, ...]:
    """Return entries, the oldest first, of which the older ones are joined by the hour: then they
    count a little longer, and again where they are signed or replaced, never less. Those that may
    still be sent stay as they are; all that stay keep their order."""
    sent = [index for index, entry in enumerate(spent) if not entry.coin]
    older = set(sent[:-SPENT_EACH_MAX])
    hours: dict[int, list[Spent]] = {}
    for index in sorted(older):
        hours.setdefault(spent[index].time_ms // _HOUR_MS, []).append(spent[index])
    joined = [
        Spent("", _total(entries), max(entry.time_ms for entry in entries))
        for _, entries in sorted(hours.items())
    ]
    return (*joined, *(entry for index, entry in enumerate(spent) if index not in older))


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Return the tokens in a file, none where there is none. Raises `TokenError`, OSError."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return ()
    try:
        found = msgspec.json.decode(content, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        found = None
    if found is None or len(content) > FILE_BYTES_MAX:
        raise TokenError(f"{path} holds no tokens of this version: delete it to begin anew")
    if found.version != _VERSION:
        raise TokenError(f"{path} is of version {found.version}, expected {_VERSION}")
    return found.tokens
