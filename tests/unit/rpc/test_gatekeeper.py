"""The cookie, the token, passwords."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import trio_test, wait_all_tasks_blocked

from unchained.node.base.files import write_private
from unchained.node.base.runner import InlineRunner
from unchained.node.rpc.core.errors import BusyError, UnauthorizedError
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.http.gatekeeper import (
    Gatekeeper,
    PasswordHash,
    cookie_file,
    token_file,
)


def cheap(password: str) -> PasswordHash:
    """A hash of cost 2, so that tests need not wait."""
    digest = hashlib.scrypt(password.encode(), salt=b"salt", n=2, r=8, p=1, dklen=32)
    return PasswordHash(2, 8, 1, b"salt", digest)


def basic(pair: str) -> bytes:
    return b"Basic " + base64.b64encode(pair.encode())


def keeper(**changes: Any) -> Gatekeeper:
    return Gatekeeper(
        **{
            "cookie": "__cookie__:abc",
            "token": "t" * 64,
            "runner": InlineRunner(),
            "user": "ada",
            "password": cheap("lovelace: 1"),
            **changes,
        }
    )


@trio_test
async def test_credentials_give_access() -> None:
    gate = keeper()
    assert (await gate.caller(None)).access is Access.PUBLIC
    assert (await gate.caller(b"Bearer " + b"t" * 64)).access is Access.READ
    assert (await gate.caller(b"bearer   " + b"t" * 64)).access is Access.READ
    with pytest.raises(UnauthorizedError):
        await gate.caller(b"Bearer " + b"m" * 64)
    assert (
        await keeper(mining_token="m" * 64).caller(b"Bearer " + b"m" * 64)
    ).access is Access.MINE
    assert (await gate.caller(basic("__cookie__:abc"))).access is Access.FULL
    assert (await gate.caller(basic("ada:lovelace: 1"))).access is Access.FULL
    assert (await keeper(anonymous=Access.READ).caller(None)).access is Access.READ


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Basic",
        b"Basic !",
        b"Basic \xff",
        basic("__cookie__:abd"),
        basic("__cookie__:"),
        basic("ada:wrong"),
        basic("eve:lovelace: 1"),
        basic("ada"),
        b"Bearer " + b"u" * 64,
        b"Bearer \xff",
        b"Token " + b"t" * 64,
        b"Basic " + b"A" * 10_000,
    ],
)
@trio_test
async def test_wrong_credentials_give_none(header: bytes) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        await keeper().caller(header)
    assert "abc" not in caught.value.message


@trio_test
async def test_without_a_password_there_is_no_user() -> None:
    with pytest.raises(UnauthorizedError):
        await keeper(user=None, password=None).caller(basic("ada:lovelace: 1"))


class CountingRunner(InlineRunner):
    """Counts what it runs, and waits for a gate before."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = trio.Event()

    async def run(self, work: Callable[..., Any], *args: Any) -> Any:
        self.runs += 1
        await self.gate.wait()
        return work(*args)


@trio_test
async def test_a_right_password_is_hashed_once() -> None:
    runner = CountingRunner()
    runner.gate.set()
    gate = keeper(runner=runner)
    for _ in range(5):
        assert (await gate.caller(basic("ada:lovelace: 1"))).access is Access.FULL
    assert runner.runs == 1


@trio_test
async def test_few_unknown_passwords_wait_to_be_hashed() -> None:
    runner = CountingRunner()
    gate = keeper(runner=runner)
    refused = 0

    async def guess(number: int) -> None:
        nonlocal refused
        with pytest.raises(UnauthorizedError):
            await gate.caller(basic(f"ada:{number}"))
        refused += 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(guess, number)
        await wait_all_tasks_blocked()
        assert runner.runs == 1
        with pytest.raises(BusyError):
            await gate.caller(basic("ada:one more"))
        assert (await gate.caller(basic("__cookie__:abc"))).access is Access.FULL
        runner.gate.set()
    assert refused == 5


class Hashing:
    """A runner whose checks end one by one, when the test lets them."""

    def __init__(self) -> None:
        self.passwords: list[str] = []
        self.ended = trio.Event()

    async def run(self, work: Callable[..., Any], *args: Any) -> Any:
        self.passwords.append(args[0])
        await self.ended.wait()
        self.ended = trio.Event()
        return work(*args)


@pytest.mark.parametrize("flooders", [1, 3, 20])
@trio_test
async def test_a_flood_of_wrong_passwords_keeps_nobody_out(flooders: int) -> None:
    runner = Hashing()
    gate = keeper(runner=runner)
    came_in = trio.Event()

    async def flood(address: str, number: int) -> None:
        for guess in range(1_000):
            try:
                await gate.caller(basic(f"ada:{number} {guess}"), address)
            except BusyError:
                await trio.lowlevel.checkpoint()
            except UnauthorizedError:
                pass

    async def owner() -> None:
        assert (await gate.caller(basic("ada:lovelace: 1"), "192.0.2.1")).access is Access.FULL
        came_in.set()

    async with trio.open_nursery() as nursery:
        for address in range(flooders):
            for number in range(20):
                nursery.start_soon(flood, f"198.51.100.{address}", number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(owner)
        checks = 0
        while not came_in.is_set():
            # Of those before the owner each address has one, and one was under way.
            assert checks <= flooders + 4
            runner.ended.set()
            await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
            checks += 1
        nursery.cancel_scope.cancel()


def test_a_password_hash_is_text_and_back() -> None:
    made = PasswordHash.of("correct horse")
    again = PasswordHash.parse(str(made))
    assert again == made
    assert again.verify("correct horse")
    assert not again.verify("battery staple")
    assert str(made) != str(PasswordHash.of("correct horse"))
    assert "scrypt" not in repr(made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        "scrypt$15$8$1$c2FsdA==$c2hvcnQ=",
        "scrypt$15$8$1$???$???",
        "scrypt$40$8$1$c2FsdA==$" + "A" * 43 + "=",
        "scrypt$0$8$1$c2FsdA==$" + "A" * 43 + "=",
        "scrypt$15$0$1$c2FsdA==$" + "A" * 43 + "=",
        "bcrypt$15$8$1$c2FsdA==$" + "A" * 43 + "=",
    ],
)
def test_what_is_no_password_hash_is_refused_unrepeated(text: str) -> None:
    with pytest.raises(ValueError, match="a password hash looks like") as caught:
        PasswordHash.parse(text)
    assert "hunter2" not in str(caught.value)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_cookie_lives_as_long_as_its_context(tmp_path: Path) -> None:
    with cookie_file(tmp_path, "http://127.0.0.1:1") as cookie:
        assert (tmp_path / "rpc.cookie").read_text() == cookie
        assert (tmp_path / "rpc.url").read_text() == "http://127.0.0.1:1"
        assert mode(tmp_path / "rpc.cookie") == 0o600
        with cookie_file(tmp_path, "http://127.0.0.1:2") as other:
            assert other != cookie
    assert list(tmp_path.iterdir()) == []


def test_a_cookie_of_another_node_is_left_alone(tmp_path: Path) -> None:
    with cookie_file(tmp_path, "http://127.0.0.1:1"):
        (tmp_path / "rpc.cookie").write_text("__cookie__:other")
    assert [path.name for path in tmp_path.iterdir()] == ["rpc.cookie"]


def test_the_token_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "rpc.token"
    token = token_file(path)
    assert len(token) == 64
    assert mode(path) == 0o600
    assert token_file(path) == token
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    path.write_text("guess me")
    with pytest.raises(ValueError, match="delete it") as caught:
        token_file(path)
    assert "guess me" not in str(caught.value)


@pytest.mark.parametrize("others", [0o004, 0o020, 0o040])
def test_a_token_that_others_may_have_read_is_none(tmp_path: Path, others: int) -> None:
    path = tmp_path / "mining.token"
    token_file(path)
    path.chmod(0o600 | others)
    with pytest.raises(PermissionError, match="others can read it: chmod 600 it"):
        token_file(path)


def test_nodes_that_start_at_once_share_one_token(tmp_path: Path) -> None:
    path = tmp_path / "mining.token"
    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(lambda _: token_file(path), range(8)))
    assert tokens == {path.read_text()}
    with pytest.raises(FileExistsError):
        write_private(path, b"another", replace=False)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_secret_replaces_and_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "secret").symlink_to(target)
    write_private(tmp_path / "secret", b"hidden")
    assert target.read_text() == "untouched"
    assert not (tmp_path / "secret").is_symlink()
    assert mode(tmp_path / "secret") == 0o600


def test_a_secret_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    with pytest.raises(OSError, match="taken"):
        write_private(tmp_path / "taken", b"hidden")
    assert sorted(os.listdir(tmp_path)) == ["taken"]
