"""Where a node listens and how it lets its owner in, and why it may not be reached."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from unchained.node.rpc.core.credential_files import COOKIE_FILE, SOCKET_FILE, URL_FILE
from unchained.node.rpc.core.errors import short

_USER_AGENT: Final = "unchained-client"


class ClientError(Exception):
    """The call did not reach a node; the message is one line for a person."""


class NodeNotRunningError(ClientError):
    """Nothing listens, or there is no cookie."""

    def __init__(self) -> None:
        super().__init__("the node is not running (start it with `unchained-node start`)")


class UnreachableError(ClientError):
    """Something else is in the way: no permission, no route, no node at the other end."""


class NodeTimedOutError(ClientError):
    """The node did not answer in time; whether it did what was asked is not known."""


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """Where a node listens, and the credentials for it. It does not show them.

    With a `socket`, that is where it listens, and `host` what it is called there. `certificate` is
    a file of certificates to be trusted instead of the system's.
    """

    host: str
    port: int
    secure: bool = False
    authorization: str | None = None
    socket: Path | None = None
    certificate: Path | None = None

    @classmethod
    def at(cls, url: str, *, cookie: Path | None = None, token: str | None = None) -> Endpoint:
        """Return the endpoint at `url`, with the cookie of a file, or a token.

        Raises ValueError for a URL that is none, NodeNotRunningError where there is no cookie,
        Unreachable where it cannot be read.
        """
        authorization = None if token is None else f"Bearer {token}"
        parts = urlsplit(url)
        if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
            return cls("localhost", 0, False, authorization, Path(parts.path))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"a node's URL looks like http://127.0.0.1:9332, not {short(url)!r}")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a node's URL holds no credentials: others could read them there")
        if cookie is not None:
            authorization = _basic(_read(cookie))
        secure = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if secure else 80), secure, authorization)

    @classmethod
    def of(cls, data_directory: Path, *, token: str | None = None) -> Endpoint:
        """Return the endpoint of the node that runs on `data_directory`: its socket, which takes no
        credentials, else its address, with the cookie. A token is shown in place of either.

        Raises NodeNotRunningError, Unreachable.
        """
        socket = data_directory / SOCKET_FILE
        if _is_socket(socket):
            return cls.at(f"unix:{socket.absolute()}", token=token)
        url = _read(data_directory / URL_FILE)
        cookie = None if token is not None else data_directory / COOKIE_FILE
        return cls.at(url, cookie=cookie, token=token)

    def with_password(self, user: str, password: str) -> Endpoint:
        """Return the same place with other credentials."""
        return replace(self, authorization=_basic(f"{user}:{password}"))

    def trusting(self, certificate: Path) -> Endpoint:
        """Return the same place, known by a file of certificates (PEM)."""
        return replace(self, certificate=certificate)

    def tls(self) -> ssl.SSLContext:
        """Return what a connection is encrypted by. Raises UnreachableError for a file that holds
        no certificates."""
        try:
            return ssl.create_default_context(cafile=self.certificate)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates"
            raise UnreachableError(f"{self.certificate}: {reason}") from None

    def __repr__(self) -> str:
        return f"Endpoint({self.host!r}, {self.port})"

    @property
    def netloc(self) -> str:
        """The host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.socket is not None:
            return host
        return f"{host}:{self.port}"

    def headers(self, length: int | None) -> dict[str, str]:
        """Return the headers of a request with a body of `length` bytes, or without one."""
        made = {"Host": self.netloc, "User-Agent": _USER_AGENT, "Connection": "close"}
        if length is not None:
            made |= {"Content-Type": "application/json", "Content-Length": str(length)}
        if self.authorization is not None:
            made["Authorization"] = self.authorization
        return made


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except OSError:
        return False


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise NodeNotRunningError from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UnreachableError(f"cannot read {path}: {reason}") from None


def is_refusal(error: BaseException) -> bool:
    """Return whether every address that was tried refused the connection."""
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return True
    causes = error.__cause__
    if isinstance(causes, BaseExceptionGroup):
        return all(is_refusal(cause) for cause in causes.exceptions)
    return isinstance(causes, ConnectionRefusedError)


def unreachable(end: Endpoint, error: Exception | None) -> UnreachableError:
    """Return the error for a connection that failed, or that ended without an answer."""
    # Trio says that the stream is broken, and what broke it as the cause.
    for found in (error, getattr(error, "__cause__", None)):
        if isinstance(found, ssl.SSLCertVerificationError):
            return UnreachableError(
                f"the certificate of {end.netloc} is not trusted ({found.verify_message}): name "
                "its file by --rpc-certificate"
            )
    reason = getattr(error, "strerror", None) or (short(str(error)) if error else "")
    return UnreachableError(f"no answer from {end.netloc}: {reason or 'the connection was closed'}")


def late(seconds: float) -> str:
    """Return what to say of an answer that did not come in time."""
    return f"the node did not answer within {seconds:g} s"
