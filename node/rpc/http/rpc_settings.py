"""What an operator decides about the server, and how the node's settings say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unchained.node.base.config import PageAccess, RpcConfig
from unchained.node.base.ports import AUTO, rpc_place
from unchained.node.rpc.core.call_places import CallLimits
from unchained.node.rpc.core.credential_files import SOCKET_FILE
from unchained.node.rpc.http.gatekeeper import PasswordHash
from unchained.node.rpc.http.listener import HttpLimits
from unchained.node.rpc.http.sockets import ListenError, fits_socket


@dataclass(frozen=True, slots=True)
class RpcSettings:
    """What an operator decides about the server. `port` 0 takes a free one."""

    data_directory: Path
    host: str = "127.0.0.1"
    port: int = 0
    takes_next: bool = False
    """The next free port will do as well."""
    names: tuple[str, ...] = ()
    """Further host names under which the node may be addressed."""
    user: str | None = None
    password: PasswordHash | None = None
    mining_token_file: Path | None = None
    """Where the token of miners elsewhere is kept; None: there is none."""
    open_read: bool = False
    """Read-only methods need no token."""
    socket: Path | None = None
    """Where the owner's Unix socket is made; None: there is none."""
    tls: tuple[Path, Path] | None = None
    """Files of the certificate and its key; None: connections are not encrypted."""
    page: PageAccess = "loopback"
    """Who sees the page: `loopback`, a browser of this machine without credentials, others with a
    token; `token`, nobody without one; `off`: there is none."""
    wallet_page: bool = False
    """The page shows and pays from wallets, in a session that a link has begun."""
    http: HttpLimits = field(default_factory=HttpLimits)
    calls: CallLimits = field(default_factory=CallLimits)
    streams: int = 16
    heartbeat_seconds: float = 15.0


def rpc_settings(config: RpcConfig, data_dir: Path, network: str) -> RpcSettings:
    """Return what the settings of a node say, by the name of its network. Raises `ListenError`
    where they contradict one another."""
    host, port, takes_next = rpc_place(config.listen, network)
    return RpcSettings(
        data_dir,
        host=host,
        port=port,
        takes_next=takes_next,
        names=config.names,
        user=config.user or None,
        password=PasswordHash.parse(config.password_hash) if config.user else None,
        mining_token_file=(
            Path(config.mining_token_file).expanduser() if config.mining_token_file else None
        ),
        open_read=config.open_read,
        socket=_socket(config.socket, data_dir),
        tls=_tls(config),
        page=config.page,
        wallet_page=config.wallet_page,
    )


def _socket(setting: str, data_dir: Path) -> Path | None:
    if setting == "off":
        return None
    if setting != AUTO:
        return Path(setting)
    path = (data_dir / SOCKET_FILE).absolute()
    # Nobody who did not ask for a socket is kept from starting by the depth of his directories.
    return path if fits_socket(path) else None


def _tls(config: RpcConfig) -> tuple[Path, Path] | None:
    """Return the files of certificate and key, None where there is no TLS. Raises `ListenError`
    where one is named without the other."""
    if not config.tls_certificate and not config.tls_key:
        return None
    if not config.tls_certificate or not config.tls_key:
        raise ListenError("rpc.tls_certificate and rpc.tls_key go together: one is missing")
    return Path(config.tls_certificate).expanduser(), Path(config.tls_key).expanduser()
