"""The node's own onion service, by a small control port of the tests: kept, and hostile answers."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.framework.tor_control_server import COOKIE, KEY, FakeTor, service_of
from unchained.node.transport import onion_service, tor_control
from unchained.node.transport.address import Address
from unchained.node.transport.onion_service import (
    ONION_KEY_NAME,
    OnionKeyError,
    OnionService,
    TorPlace,
)
from unchained.node.transport.tor_control import TOR_LINE_BYTES_MAX, TOR_LINES_MAX

pytestmark = pytest.mark.real_time

TARGET = "127.0.0.1:40404"
PATIENCE_S = 30


class Door:
    """Takes the place of a transport."""

    def __init__(self) -> None:
        self.address: Address | None = None
        self.changed = trio.Event()

    def onion_target(self) -> str:
        return TARGET

    def set_onion(self, address: Address | None) -> None:
        self.address = address
        self.changed.set()
        self.changed = trio.Event()


class Lines:
    """Takes the place of a log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.came = trio.Event()

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))
        self.came.set()

    warning = info

    async def until(self, event: str) -> dict[str, Any]:
        """Return what the first line of an event says, once there is one."""
        with trio.fail_after(PATIENCE_S):
            while not (found := [fields for name, fields in self.lines if name == event]):
                self.came = trio.Event()
                await self.came.wait()
        return found[0]


@pytest.fixture
def tor(tmp_path: Path) -> FakeTor:
    file = tmp_path / 'a "cookie" of \\ Tor'
    file.write_bytes(COOKIE)
    return FakeTor(file)


@asynccontextmanager
async def serving(
    tor: FakeTor,
    data_dir: Path,
    password_file: str = "",
    *,
    cookie_file: Path | None = None,
    is_trusted: bool = False,
) -> AsyncIterator[tuple[Door, Lines]]:
    """Run Tor, and an onion service by it. `cookie_file`: where the operator says its cookie is,
    Tor's own word for it unless given."""
    door, log = Door(), Lines()
    async with trio.open_nursery() as outer:
        port = await outer.start(tor.serve)
        place = TorPlace.parse(
            f"127.0.0.1:{port}",
            password_file,
            cookie_file=str(cookie_file or tor.cookie_file),
            is_trusted=is_trusted,
        )
        service = OnionService(place, data_dir, 4031, door, log)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: service.run(task_status=task_status))
            yield door, log
            nursery.cancel_scope.cancel()
        outer.cancel_scope.cancel()


async def test_a_service_is_set_up_announced_and_removed_and_keeps_its_address(
    tor: FakeTor, tmp_path: Path
) -> None:
    for key in ("NEW:ED25519-V3", KEY):
        async with serving(tor, tmp_path) as (door, log):
            said = await log.until("net.onion_service")
            assert said == {"address": f"/onion3/{service_of(7)}:4031"}
            assert str(door.address) == said["address"]
            assert tor.asked[-1] == f"ADD_ONION {key} Port=4031,{TARGET}"
        assert tor.asked[-1] == f"DEL_ONION {service_of(7)}"
        assert door.address is None
        file = tmp_path / ONION_KEY_NAME
        assert file.read_text() == f"{KEY}\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        # Neither cookie nor key is told to anybody.
        assert not any(secret in str(log.lines) for secret in (KEY, COOKIE.hex()))
        assert not any(COOKIE.hex() in line for line in tor.asked)


@pytest.mark.parametrize("methods", ["NULL", "HASHEDPASSWORD", "NULL,COOKIE,HASHEDPASSWORD"])
async def test_who_does_not_prove_to_be_tor_is_told_no_password_and_no_key(
    methods: str, tor: FakeTor, tmp_path: Path
) -> None:
    (tmp_path / ONION_KEY_NAME).write_text(f"{KEY}\n")
    file = tmp_path / "password"
    file.write_text("secret")
    file.chmod(0o600)
    tor.methods = methods
    async with serving(tor, tmp_path, str(file)) as (door, log):
        why = (await log.until("net.no_onion_service"))["why"]
    assert "does not prove that it is Tor" in why
    assert "network.tor_trusted" in why
    assert set(tor.asked) == {"PROTOCOLINFO 1"}
    assert door.address is None


@pytest.mark.parametrize("is_named", [True, False])
async def test_a_cookie_of_an_impostors_own_proves_nothing(
    is_named: bool, tor: FakeTor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = tmp_path / "usual"
    usual.write_bytes(bytes(32))
    monkeypatch.setattr(onion_service, "USUAL_COOKIE_FILES", (usual,))
    door, log = Door(), Lines()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(tor.serve)
        place = TorPlace.parse(f"127.0.0.1:{port}", cookie_file=str(usual) if is_named else "")
        service = OnionService(place, tmp_path, 4031, door, log)  # type: ignore[arg-type]
        nursery.start_soon(service.run)
        why = (await log.until("net.no_onion_service"))["why"]
        nursery.cancel_scope.cancel()
    assert "its cookie lies in an unusual place" in why
    assert set(tor.asked) == {"PROTOCOLINFO 1"}


async def test_a_link_that_leads_elsewhere_once_it_was_looked_at_proves_nothing(
    tor: FakeTor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, own, link = tmp_path / "usual", tor.cookie_file, tmp_path / "link"
    usual.write_bytes(bytes(32))
    link.symlink_to(usual)
    tor.cookie_file = link
    read = tor_control._read_cookie

    def flip_and_read(path: Path) -> bytes:
        link.unlink(missing_ok=True)
        link.symlink_to(own)
        return read(path)

    monkeypatch.setattr(tor_control, "_read_cookie", flip_and_read)
    async with serving(tor, tmp_path, cookie_file=usual) as (_, log):
        why = (await log.until("net.no_onion_service"))["why"]
    assert why == f"who answers there does not have the cookie in {usual}"
    assert {line.split()[0] for line in tor.asked} == {"PROTOCOLINFO", "AUTHCHALLENGE"}


async def test_a_tor_that_wants_nothing_is_used_where_the_operator_trusts_it(
    tor: FakeTor, tmp_path: Path
) -> None:
    tor.methods = "NULL"
    async with serving(tor, tmp_path, is_trusted=True) as (_, log):
        await log.until("net.onion_service")


async def test_a_password_lets_in_where_tor_is_trusted(tor: FakeTor, tmp_path: Path) -> None:
    tor.methods, tor.password = "HASHEDPASSWORD", 'se\\\\cr\\"et'
    file = tmp_path / "password"
    file.touch(0o644)
    with pytest.raises(OnionKeyError, match="others can read it: chmod 600 it"):
        TorPlace.parse("127.0.0.1:1", str(file)).password()
    file.chmod(0o600)
    file.write_text('se\\cr"et\n')
    async with serving(tor, tmp_path, str(file), is_trusted=True) as (_, log):
        await log.until("net.onion_service")
    file.write_text("wrong")
    async with serving(tor, tmp_path, str(file), is_trusted=True) as (_, log):
        why = (await log.until("net.no_onion_service"))["why"]
    assert why == "it answers AUTHENTICATE with 515"


async def test_a_tor_that_goes_is_asked_again_when_it_is_back(
    tor: FakeTor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onion_service, "RETRY_FIRST_S", 0.01)
    async with serving(tor, tmp_path) as (door, log):
        await log.until("net.onion_service")
        cut, tor.hang_up = tor.hang_up, trio.Event()
        log.lines.clear()
        changed = door.changed
        cut.set()
        with trio.fail_after(PATIENCE_S):
            await changed.wait()
        await log.until("net.onion_service")
        assert log.lines[0] == (
            "net.no_onion_service", {"why": "Tor has closed the control connection"}
        )  # fmt: skip
        assert door.address is not None


CHALLENGE = b"250 AUTHCHALLENGE SERVERHASH=" + b"00" * 32 + b" SERVERNONCE=" + b"11" * 32 + b"\r\n"

HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "no reply at all": ("PROTOCOLINFO", b"<html>\r\n", "an answer to PROTOCOLINFO that is none"),
    "a line without end": (
        "PROTOCOLINFO",
        b"250-" + b"x" * 10 * TOR_LINE_BYTES_MAX,
        f"a line above {TOR_LINE_BYTES_MAX} bytes",
    ),
    "a reply without end": (
        "PROTOCOLINFO", b"250-more\r\n" * 1_000, f"of more than {TOR_LINES_MAX} lines"
    ),
    "events without end": (
        "ADD_ONION", b"650 event\r\n" * 1_000, f"of more than {TOR_LINES_MAX} lines"
    ),
    "no way in": ("PROTOCOLINFO", b"250-AUTH METHODS=COOKIE\r\n250 OK\r\n", "its methods: COOKIE"),
    "a password": (
        "PROTOCOLINFO",
        b"250-AUTH METHODS=HASHEDPASSWORD\r\n250 OK\r\n",
        "network.tor_password_file",
    ),
    "another file for the cookie": (
        "PROTOCOLINFO",
        b'250-AUTH METHODS=SAFECOOKIE COOKIEFILE="/etc/hosts"\r\n250 OK\r\n',
        "no cookie of Tor's: /etc/hosts",
    ),
    "no file for the cookie": (
        "PROTOCOLINFO", b"250-AUTH METHODS=SAFECOOKIE\r\n250 OK\r\n", "in which file"
    ),
    "a cookie that is not there": (
        "PROTOCOLINFO",
        b'250-AUTH METHODS=SAFECOOKIE COOKIEFILE="/nowhere"\r\n250 OK\r\n',
        "cannot read Tor's cookie /nowhere: No such file",
    ),
    "another cookie": ("AUTHCHALLENGE", CHALLENGE, "does not have the cookie"),
    "no challenge": ("AUTHCHALLENGE", b"250 OK\r\n", "AUTHCHALLENGE that is none"),
    "not let in": ("AUTHENTICATE", b"515 no\r\n", "it answers AUTHENTICATE with 515"),
    "no service": ("ADD_ONION", b"250 OK\r\n", "an answer to ADD_ONION that is none"),
    "a service that is none": (
        "ADD_ONION",
        b"250-ServiceID=" + b"a" * 56 + b"\r\n250-PrivateKey=" + KEY.encode() + b"\r\n250 OK\r\n",
        "an onion service that is none",
    ),
    "no key": (
        "ADD_ONION", f"250-ServiceID={service_of(7)}\r\n250 OK\r\n".encode(), "that is none"
    ),
    "a key in its refusal": ("ADD_ONION", f"513 bad {KEY}\r\n".encode(), "ADD_ONION with 513"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_control_port_is_one_line(what: str, tor: FakeTor, tmp_path: Path) -> None:
    command, answer, words = HOSTILE[what]
    tor.answers[command] = answer
    # Of one that is trusted everything is read that it may say.
    async with serving(tor, tmp_path, is_trusted=True) as (door, log):
        why = (await log.until("net.no_onion_service"))["why"]
        assert words in why
        assert "\n" not in why
        assert KEY not in why
        assert door.address is None
    assert not (tmp_path / ONION_KEY_NAME).exists()
    if what == "another cookie":
        assert not any(line.startswith("AUTHENTICATE") for line in tor.asked)


@pytest.mark.parametrize("command", ["PROTOCOLINFO", "AUTHENTICATE", "ADD_ONION"])
async def test_one_that_hangs_is_given_up(
    command: str, tor: FakeTor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tor_control, "TOR_TIMEOUT_S", 0.1)
    tor.hangs_at = command
    async with serving(tor, tmp_path) as (_, log):
        why = (await log.until("net.no_onion_service"))["why"]
    assert why == f"no answer to {command} in 0.1 s"


async def test_one_that_is_not_there_is_said(tmp_path: Path) -> None:
    door, log = Door(), Lines()
    place = TorPlace.parse("127.0.0.1:1")
    service = OnionService(place, tmp_path, 4031, door, log)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        why = (await log.until("net.no_onion_service"))["why"]
        nursery.cancel_scope.cancel()
    assert why == "cannot reach Tor's control port at 127.0.0.1:1: Connection refused"


def test_a_key_that_is_none_stops_the_start(tmp_path: Path) -> None:
    door, log = Door(), Lines()
    (tmp_path / ONION_KEY_NAME).write_text("ED25519-V3:short\n")
    with pytest.raises(OnionKeyError, match="is no key of an onion service: expected") as found:
        OnionService(TorPlace("127.0.0.1", 1), tmp_path, 1, door, log)  # type: ignore[arg-type]
    assert "short" not in str(found.value)
    with pytest.raises(OnionKeyError, match=r"cannot read .*nowhere"):
        TorPlace.parse("127.0.0.1:1", str(tmp_path / "nowhere")).password()
