"""An onion service of this node's own, set up and kept by Tor's control port while it runs.

Its key stays in the data directory, so that the address does; its visitors come in at a door of
their own, so that nobody takes them for this machine's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.files import read_private, write_private
from unchained.node.transport.address import Address
from unchained.node.transport.contract import BadAddressError, BadIdentityError
from unchained.node.transport.libp2p.listener import dial_problem
from unchained.node.transport.tor_control import (
    NEW_KEY,
    TOR_TIMEOUT_S,
    USUAL_COOKIE_FILES,
    TorControl,
    TorError,
)

ONION_KEY_NAME: Final = "onion-key"
"""File of the data directory with the key of the onion service."""
RETRY_FIRST_S: Final = 1.0
RETRY_LAST_S: Final = 300.0
"""Seconds until Tor is asked again, doubling."""
REMOVE_S: Final = 5.0
"""Seconds that the service has to be removed when the node stops."""
PASSWORD_BYTES_MAX: Final = 1_024
KEY_FILE_BYTES_MAX: Final = 1_024
_KEY = re.compile(r"ED25519-V3:[A-Za-z0-9+/]{86}==\Z")


class OnionKeyError(BadIdentityError):
    """The file of the onion service's key, or of Tor's password, cannot be used."""


class OnionDoor(Protocol):
    """Takes what an onion service leads in, and announces the service: a transport that runs."""

    def onion_target(self) -> str:
        """Return ``HOST:PORT`` of the door."""

    def set_onion(self, address: Address | None) -> None:
        """Announce where the service is; None: there is none any more."""


@dataclass(frozen=True, slots=True)
class TorPlace:
    """Where Tor's control port is, the file of its password if it is to have one, and that of its
    cookie where it is none of the usual ones. `is_trusted`: Tor need not prove to be Tor."""

    host: str
    port: int
    password_file: Path | None = None
    cookie_file: Path | None = None
    is_trusted: bool = False

    @classmethod
    def parse(
        cls,
        text: str,
        password_file: str = "",
        *,
        cookie_file: str = "",
        is_trusted: bool = False,
    ) -> TorPlace:
        """Read ``HOST:PORT``."""
        host, _, port = text.rpartition(":")
        password, cookie = (
            Path(file).expanduser() if file else None for file in (password_file, cookie_file)
        )
        return cls(host.strip("[]"), int(port), password, cookie, is_trusted)

    def password(self) -> str | None:
        """Return the first line of the file; None if there is none to read. Raises
        `OnionKeyError`."""
        if self.password_file is None:
            return None
        try:
            text = read_private(self.password_file, PASSWORD_BYTES_MAX).decode()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise OnionKeyError(f"cannot read {self.password_file}: {why}") from None
        return text.splitlines()[0] if text else ""


class OnionService:
    """Keeps the service up; run `run` while the transport runs."""

    def __init__(
        self,
        tor: TorPlace,
        data_dir: Path,
        port: int,
        door: OnionDoor,
        log: FilteringBoundLogger,
    ) -> None:
        """`port`: that of the onion address. Raises `OnionKeyError`."""
        self._tor = tor
        self._path = data_dir / ONION_KEY_NAME
        self._port = port
        self._door = door
        self._log = log
        self._key = _read_key(self._path)
        self._password = tor.password()
        self._told = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Set the service up, and again whenever Tor was gone, until cancelled; then remove it."""
        task_status.started()
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await self._serve()
                wait_s = RETRY_FIRST_S
                self._tell("Tor has closed the control connection")
            except TorError as error:
                self._tell(str(error))
            await trio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_LAST_S)

    async def _serve(self) -> None:
        """Have the service until the connection to Tor ends. Raises `TorError`."""
        async with await self._connect() as stream:
            control = TorControl(stream)
            named = self._tor.cookie_file
            await control.authenticate(
                self._password,
                cookie_files=USUAL_COOKIE_FILES if named is None else (named,),
                is_trusted=self._tor.is_trusted,
            )
            onion = await control.add_onion(
                self._key or NEW_KEY, self._port, self._door.onion_target()
            )
            try:
                address = Address.parse(f"/onion3/{onion.service}:{self._port}")
            except BadAddressError:
                raise TorError("it names an onion service that is none") from None
            if onion.key != self._key:
                await trio.to_thread.run_sync(self._keep, onion.key)
            self._told = ""
            self._log.info("net.onion_service", address=str(address))
            self._door.set_onion(address)
            try:
                await control.wait_closed()
            finally:
                self._door.set_onion(None)
                with trio.move_on_after(REMOVE_S, shield=True):
                    await self._remove(control, onion.service)

    async def _remove(self, control: TorControl, service: str) -> None:
        try:
            await control.delete_onion(service)
        except TorError:
            return  # it is gone with the connection

    async def _connect(self) -> trio.SocketStream:
        place = f"{self._tor.host}:{self._tor.port}"
        try:
            with trio.fail_after(TOR_TIMEOUT_S):
                return await trio.open_tcp_stream(self._tor.host, self._tor.port)
        except trio.TooSlowError:
            raise TorError(f"Tor's control port does not answer at {place}") from None
        except OSError as error:
            why = dial_problem(error)
            raise TorError(f"cannot reach Tor's control port at {place}: {why}") from None

    def _keep(self, key: str) -> None:
        try:
            write_private(self._path, f"{key}\n".encode("ascii"))
        except OSError as error:
            raise TorError(f"cannot write {self._path}: {error.strerror}") from None
        self._key = key

    def _tell(self, why: str) -> None:
        """Say once what is amiss."""
        if why != self._told:
            self._told = why
            self._log.warning("net.no_onion_service", why=why)


def _read_key(path: Path) -> str:
    """Return the key that is kept, "" if there is none yet. Raises `OnionKeyError`."""
    try:
        text = read_private(path, KEY_FILE_BYTES_MAX, close=True).decode("ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise OnionKeyError(f"cannot read {path}: {why}") from None
    if _KEY.match(text) is None:
        raise OnionKeyError(
            f"{path} is no key of an onion service: expected ED25519-V3: and 88 characters; "
            "restore it, or move it away to be given another address"
        )
    return text
