"""Who may call what: the cookie, the tokens, user and password.

- `rpc.cookie` in the data directory, mode 0600, holds `__cookie__:<hex>`: made at start, removed
  at stop. Anyone who can read the file has full access, by HTTP basic authentication.
- `rpc.token`, mode 0600, is kept from start to start until someone deletes it. As a bearer
  token it gives read-only access: for monitoring and the like.
- a file that the configuration names, mode 0600, is kept likewise. As a bearer token it lets
  miners elsewhere take work and hand in coins.
- `rpc.tokens` holds the hashes of tokens that give rights to single wallets (see `tokens`). A
  client that knows basic authentication alone gives any token as the password of `__token__`.
- a user and the scrypt hash of a password from the configuration give full access.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unchained.node.base.files import read_private, write_private
from unchained.node.base.randomness import SYSTEM
from unchained.node.base.runner import Runner
from unchained.node.rpc.core.credential_files import COOKIE_FILE, URL_FILE
from unchained.node.rpc.core.errors import UnauthorizedError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import NODE_OWNER, Caller
from unchained.node.rpc.http.password_turns import PasswordTurns
from unchained.node.rpc.http.tokens import TokenBook, TokenError

TOKEN_USER: Final = "__token__"  # noqa: S105 - a name for those who can send no bearer token
"""The user whose password is a token, for clients that know HTTP basic authentication alone."""

_COOKIE_USER: Final = "__cookie__"
_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")
_TOKEN_FILE_BYTES_MAX: Final = 1024
_MAX_HEADER: Final = 1024
_SCRYPT_LOG_N: Final = 15
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 1
_SCRYPT_MEMORY: Final = 128 * 1024 * 1024
_HASH: Final = re.compile(r"scrypt\$([0-9]{1,2})\$([0-9]{1,2})\$([0-9]{1,2})\$(\S+)\$(\S+)")


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A salted scrypt hash. `n` is the cost, 128 * n * r bytes of memory."""

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> PasswordHash:
        """Hash `password` under a fresh salt; takes some 0.1 s and 32 MiB."""
        salt = SYSTEM.token_bytes(16)
        made = cls(1 << _SCRYPT_LOG_N, _SCRYPT_R, _SCRYPT_P, salt, b"")
        return cls(made.n, made.r, made.p, salt, made._compute(password))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Read what `str` gives: `scrypt$log2 n$r$p$salt$hash`, the last two in base64.

        Raises ValueError without repeating the text.
        """
        wrong = ValueError("a password hash looks like scrypt$15$8$1$SALT$HASH")
        match = _HASH.fullmatch(text)
        if match is None:
            raise wrong
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in match.group(4, 5))
        except binascii.Error:
            raise wrong from None
        log_n, r, p = (int(part) for part in match.group(1, 2, 3))
        cost = 128 * (1 << log_n) * r
        if log_n < 1 or r < 1 or p < 1 or cost >= _SCRYPT_MEMORY or not salt or len(digest) != 32:
            raise wrong
        return cls(1 << log_n, r, p, salt, digest)

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt${self.n.bit_length() - 1}${self.r}${self.p}${salt}${digest}"

    def __repr__(self) -> str:
        return "PasswordHash(…)"

    def verify(self, password: str) -> bool:
        """Return whether `password` is the one; as slow as hashing it, in constant time."""
        return hmac.compare_digest(self._compute(password), self.digest)

    def _compute(self, password: str) -> bytes:
        return hashlib.scrypt(
            password.encode(),
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            dklen=32,
            maxmem=_SCRYPT_MEMORY,
        )


class Gatekeeper:
    """Turns an Authorization header into access.

    A password that was right once is known again by a keyed digest, so that only the first call
    pays for scrypt; unknown passwords are checked one at a time, by turns of the addresses.
    """

    def __init__(
        self,
        *,
        cookie: str,
        token: str,
        mining_token: str | None = None,
        runner: Runner,
        user: str | None = None,
        password: PasswordHash | None = None,
        anonymous: Access = Access.PUBLIC,
        tokens: TokenBook | None = None,
    ) -> None:
        self._key = SYSTEM.token_bytes(_SECRET_BYTES)
        self._cookie = self._digest(cookie)
        self._token = self._digest(token)
        self._mining = None if mining_token is None else self._digest(mining_token)
        self._runner = runner
        self._user = None if user is None else self._digest(user)
        self._password = password
        self._anonymous = Caller(anonymous, is_known=False)
        self._tokens = tokens
        self._known: bytes | None = None
        self._turns = PasswordTurns()

    async def caller(self, header: bytes | None, address: str = "") -> Caller:
        """Return what a request from an address with this Authorization header (none: no header)
        may do.

        Raises UnauthorizedError for credentials that are wrong or not understood, Busy when too
        many unknown passwords wait to be checked.
        """
        if header is None:
            return self._anonymous
        scheme, _, value = header[:_MAX_HEADER].partition(b" ")
        value = value.strip()
        if scheme.lower() == b"bearer":
            return self._bearer(value)
        if scheme.lower() != b"basic":
            raise UnauthorizedError("expected HTTP basic authentication or a bearer token")
        try:
            pair = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise UnauthorizedError("the Authorization header is malformed") from None
        user, _, password = pair.partition(":")
        if user == TOKEN_USER:
            return self._bearer(password.encode())
        if hmac.compare_digest(self._digest(pair), self._cookie):
            return NODE_OWNER
        if await self._is_user(pair, address):
            return NODE_OWNER
        raise UnauthorizedError("user or password is wrong (the cookie changes at every start)")

    def _bearer(self, token: bytes) -> Caller:
        digest = self._digest_bytes(token)
        if hmac.compare_digest(digest, self._token):
            return Caller(Access.READ)
        if self._mining is not None and hmac.compare_digest(digest, self._mining):
            return Caller(Access.MINE)
        found = None if self._tokens is None else self._tokens.caller(token.decode("latin-1"))
        if found is None:
            raise UnauthorizedError("the token is wrong, or revoked")
        return found

    async def _is_user(self, pair: str, address: str) -> bool:
        if self._user is None or self._password is None or pair.startswith(f"{_COOKIE_USER}:"):
            return False
        digest = self._digest(pair)
        if self._known is not None and hmac.compare_digest(digest, self._known):
            return True
        user, _, password = pair.partition(":")
        async with self._turns.turn(address):
            right_password = await self._runner.run(self._password.verify, password)
        if not (hmac.compare_digest(self._digest(user), self._user) and right_password):
            return False
        self._known = digest
        return True

    def _digest(self, text: str) -> bytes:
        return self._digest_bytes(text.encode(errors="surrogatepass"))

    def _digest_bytes(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, digest_size=32).digest()


@contextmanager
def cookie_file(directory: Path, url: str) -> Iterator[str]:
    """Write a fresh cookie, and `url` beside it, for as long as the context lasts.

    Gives `__cookie__:<hex>`. Removes both files at the end, unless another node has written
    its own by then.
    """
    cookie = f"{_COOKIE_USER}:{SYSTEM.token_bytes(_SECRET_BYTES).hex()}"
    files = ((directory / URL_FILE, url), (directory / COOKIE_FILE, cookie))
    for path, text in files:
        write_private(path, text.encode())
    try:
        yield cookie
    finally:
        for path, text in files:
            with suppress(OSError):
                if path.read_text() == text:
                    path.unlink()


def token_file(path: Path) -> str:
    """Return the token in a file, made if there is none. Nodes that share the file share it.

    Raises TokenError if the file holds something else, OSError where it cannot be had or others
    can read it.
    """
    try:
        return read_token(path)
    except FileNotFoundError:
        with suppress(FileExistsError):
            write_private(path, SYSTEM.token_bytes(_SECRET_BYTES).hex().encode(), replace=False)
        return read_token(path)


def read_token(path: Path) -> str:
    """Return the token in a file. Raises as `token_file`, and FileNotFoundError."""
    token = read_private(path, _TOKEN_FILE_BYTES_MAX).decode(errors="replace").strip()
    if _TOKEN.fullmatch(token) is None:
        raise TokenError(f"{path} holds no token of 64 hex digits: delete it to get another")
    return token
