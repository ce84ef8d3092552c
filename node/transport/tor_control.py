"""Tor's control port (torspec, `control-spec`): as much of it as an onion service takes.

Who answers there is believed nothing: every line and every reply is bounded, every wait has its
end, and the cookie, which proves to Tor that we may read its files, is shown to nobody. Tor has to
prove first that it has it too (SAFECOOKIE), and the cookie has to lie where Tor alone can write:
anybody could prove to have a file of his own. Without that proof no password and no key is told,
unless the operator trusts who answers.
"""

from __future__ import annotations

import hmac
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from unchained.node.base.randomness import SYSTEM

TOR_LINE_BYTES_MAX: Final = 4 << 10
TOR_LINES_MAX: Final = 64
"""Lines of one reply, events in between among them."""
TOR_TIMEOUT_S: Final = 15.0
"""Seconds for a reply: Tor gives one to ADD_ONION at once, whether or not it is connected."""
COOKIE_BYTES: Final = 32
NONCE_BYTES: Final = 32
NEW_KEY: Final = "NEW:ED25519-V3"
USUAL_COOKIE_FILES: Final = (
    Path("/run/tor/control.authcookie"),
    Path("/var/run/tor/control.authcookie"),
    Path("/var/lib/tor/control_auth_cookie"),
    Path("/usr/local/var/lib/tor/control_auth_cookie"),
    Path("/opt/homebrew/var/lib/tor/control_auth_cookie"),
    Path("~/.tor/control_auth_cookie"),
)
"""Where packages of Tor have it write its cookie: nobody but Tor, root and our own user can put a
file there."""
_SERVER_KEY: Final = b"Tor safe cookie authentication server-to-controller hash"
_CLIENT_KEY: Final = b"Tor safe cookie authentication controller-to-server hash"
_LINE = re.compile(r"([0-9]{3})([ +-])(.*)")
_METHODS = re.compile(r"AUTH METHODS=([A-Z0-9,-]+)")
_COOKIE_FILE = re.compile(r'COOKIEFILE="((?:[^"\\]|\\["\\])*)"')
_CHALLENGE = re.compile(r"AUTHCHALLENGE SERVERHASH=([0-9A-Fa-f]{64}) SERVERNONCE=([0-9A-Fa-f]{64})")
_SERVICE = re.compile(r"ServiceID=([a-z2-7]{56})")
_KEY = re.compile(r"PrivateKey=(ED25519-V3:[A-Za-z0-9+/]{86}==)")


class TorError(Exception):
    """Tor's control port did not do what it was asked for; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Onion:
    """An onion service that Tor has set up: its address without ``.onion``, and its key, by which
    it can be set up again, as Tor wants it."""

    service: str
    key: str


class TorControl:
    """One connection to the control port. A service that was set up by it ends with it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._in = bytearray()

    async def authenticate(
        self,
        password: str | None = None,
        *,
        cookie_files: Collection[Path] = USUAL_COOKIE_FILES,
        is_trusted: bool = False,
    ) -> None:
        """Be let in by the cookie, which has to lie in one of these files. Where who answers is
        trusted: by a password, if there is one, by a cookie that lies anywhere, or, where Tor wants
        neither, by nothing. Raises `TorError`."""
        info = await self._ask("PROTOCOLINFO 1")
        found = _found(_METHODS, info)
        methods = found.split(",") if found else []
        if not is_trusted:
            if "SAFECOOKIE" not in methods:
                raise TorError(
                    "it does not prove that it is Tor (CookieAuthentication 1 in its torrc lets "
                    "it): it is told no password and no key, unless network.tor_trusted is set"
                )
            told = _told_file(info)
            known = await trio.to_thread.run_sync(_known_file, told, cookie_files)
            if known is None:
                raise TorError(
                    f"its cookie lies in an unusual place, {told}: anybody could say "
                    "that; if it is Tor's, name it in network.tor_cookie_file"
                )
            # Never the path that was told: who told it may lead it elsewhere by now.
            await self._show_cookie(known)
        elif password is not None:
            await self._ask(f'AUTHENTICATE "{_quoted(password)}"')
        elif "NULL" in methods:
            await self._ask("AUTHENTICATE")
        elif "SAFECOOKIE" in methods:
            await self._show_cookie(Path(_told_file(info)))
        elif "HASHEDPASSWORD" in methods:
            raise TorError("it wants a password: name its file in network.tor_password_file")
        else:
            raise TorError(f"it lets nobody in that we know of (its methods: {found or 'none'})")

    async def _show_cookie(self, path: Path) -> None:
        cookie = await trio.to_thread.run_sync(_read_cookie, path)
        ours = SYSTEM.token_bytes(NONCE_BYTES)
        told = "\n".join(await self._ask(f"AUTHCHALLENGE SAFECOOKIE {ours.hex()}"))
        challenge = _CHALLENGE.search(told)
        if challenge is None:
            raise TorError("an answer to AUTHCHALLENGE that is none")
        shown, theirs = (bytes.fromhex(text) for text in challenge.groups())
        nonces = cookie + ours + theirs
        if not hmac.compare_digest(shown, hmac.digest(_SERVER_KEY, nonces, "sha256")):
            raise TorError(f"who answers there does not have the cookie in {path}")
        await self._ask(f"AUTHENTICATE {hmac.digest(_CLIENT_KEY, nonces, 'sha256').hex()}")

    async def add_onion(self, key: str, port: int, target: str) -> Onion:
        """Set up an onion service whose `port` leads to ``HOST:PORT``, by a key that an earlier one
        had, or by `NEW_KEY`. Raises `TorError`."""
        reply = await self._ask(f"ADD_ONION {key} Port={port},{target}")
        service = _found(_SERVICE, reply)
        made = _found(_KEY, reply) if key == NEW_KEY else key
        if not service or not made:
            raise TorError("an answer to ADD_ONION that is none")
        return Onion(service, made)

    async def delete_onion(self, service: str) -> None:
        """End an onion service. Raises `TorError`."""
        await self._ask(f"DEL_ONION {service}")

    async def wait_closed(self) -> None:
        """Wait until the connection ends, or anything comes that was not asked for."""
        try:
            await self._stream.receive_some(1)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _ask(self, command: str) -> list[str]:
        """Send a command, and return the lines of its reply without their codes. Raises
        `TorError`, whose text has nothing of the command but its name."""
        name = command.split(" ", 1)[0]
        try:
            with trio.fail_after(TOR_TIMEOUT_S):
                await self._stream.send_all(command.encode() + b"\r\n")
                return await self._reply(name)
        except trio.TooSlowError:
            raise TorError(f"no answer to {name} in {TOR_TIMEOUT_S:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise TorError(f"it hung up at {name}") from None

    async def _reply(self, name: str) -> list[str]:
        said: list[str] = []
        for _ in range(TOR_LINES_MAX):
            line = _LINE.fullmatch(await self._line(name))
            if line is None or line[2] == "+":
                raise TorError(f"an answer to {name} that is none")
            code, kind, text = line.groups()
            if code.startswith("6"):
                continue  # an event
            if code != "250":
                # What it says may be what it was told, and that may be a secret.
                raise TorError(f"it answers {name} with {code}")
            said.append(text)
            if kind == " ":
                return said
        raise TorError(f"an answer to {name} of more than {TOR_LINES_MAX} lines")

    async def _line(self, name: str) -> str:
        while (end := self._in.find(b"\r\n")) < 0:
            if len(self._in) > TOR_LINE_BYTES_MAX:
                raise TorError(f"an answer to {name} with a line above {TOR_LINE_BYTES_MAX} bytes")
            data = await self._stream.receive_some(TOR_LINE_BYTES_MAX)
            if not data:
                raise TorError(f"it hung up at {name}")
            self._in += data
        line = self._in[:end].decode("latin-1")
        del self._in[: end + 2]
        return line


def _read_cookie(path: Path) -> bytes:
    """Read Tor's cookie; nothing that is no cookie is ever read. Raises `TorError`."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size != COOKIE_BYTES:
            raise TorError(f"no cookie of Tor's: {path} is no file of {COOKIE_BYTES} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no file's name"
        raise TorError(f"cannot read Tor's cookie {path}: {why}") from None


def _told_file(info: list[str]) -> str:
    """Return where its cookie lies by its own word. Raises `TorError`."""
    file = _found(_COOKIE_FILE, info)
    if not file:
        raise TorError("it wants its cookie, and does not say in which file that is")
    return _unquoted(file)


def _known_file(told: str, known: Collection[Path]) -> Path | None:
    """Return which of these files a told path leads to, by its own name, None if to none of them.
    Raises `TorError`."""
    try:
        said = Path(told).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise TorError(f"its cookie is in no file: {type(error).__name__}") from None
    places = (path.expanduser() for path in known)
    return next((path for path in places if path.resolve() == said), None)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _found(pattern: re.Pattern[str], lines: list[str]) -> str:
    """Return the first group of a pattern in the first line that has it, "" if none has."""
    for line in lines:
        match = pattern.search(line)
        if match is not None:
            return match[1]
    return ""
