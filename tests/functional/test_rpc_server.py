"""The server as its users meet it: files, credentials, events, pages, start and stop."""

from __future__ import annotations

import base64
import logging
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from trio.testing import trio_test

from tests.framework.rpc_raw import RawAnswer, call, raw, until
from tests.framework.rpc_server import Reports, RunningServer, SampleRoom, captured, running
from unchained.node.base.files import write_private
from unchained.node.base.runner import InlineRunner, ThreadRunner
from unchained.node.rpc.client.client import Endpoint, UnreachableError
from unchained.node.rpc.client.trio_client import TrioClient
from unchained.node.rpc.core.errors import UnauthorizedError
from unchained.node.rpc.core.openrpc import registry
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import NODE_OWNER
from unchained.node.rpc.http.asgi import caller_of
from unchained.node.rpc.http.criterion import Readiness
from unchained.node.rpc.http.gatekeeper import PasswordHash
from unchained.node.rpc.http.rpc_settings import RpcSettings
from unchained.node.rpc.http.server import Server
from unchained.node.rpc.http.sessions import Sessions
from unchained.node.rpc.http.sockets import ListenError
from unchained.node.rpc.http.web_site import WebPage

HASH = "ab" * 32


def token(node: RunningServer) -> dict[str, str]:
    return {"authorization": "Bearer " + (node.directory / "rpc.token").read_text()}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@trio_test
async def test_the_files_of_the_data_directory(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        for name in ("rpc.cookie", "rpc.token", "rpc.url"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert (tmp_path / "rpc.url").read_text() == node.bound.url
    assert names(tmp_path) == ["rpc.token"]


@trio_test
async def test_the_cookie_gives_everything_and_the_token_reading(tmp_path: Path) -> None:
    async with running(tmp_path) as node, raw(node.bound.port) as client:
        cookie = (tmp_path / "rpc.cookie").read_text()
        full = {"authorization": "Basic " + base64.b64encode(cookie.encode()).decode()}
        pay, height = call("test.pay", [HASH, "1.5"]), call("test.height", [1])
        assert (await client.ask(pay, headers=full)).json()["result"]["value"] == "1.50000000"
        assert (await client.ask(height, headers=token(node))).json()["result"] == 2
        answer = await client.ask(pay, headers=token(node))
        assert answer.status == 401
        assert "the read-only token is not enough" in answer.json()["error"]["message"]
        assert (await client.ask(height)).status == 401


@trio_test
async def test_a_session_lets_its_own_pages_in_and_no_others(tmp_path: Path) -> None:
    sessions = Sessions()
    login = sessions.begin(NODE_OWNER, secure=False)
    cookie = {"cookie": login.set_cookie.partition(";")[0]}
    right = {"x-csrf-token": login.session.csrf}
    height, pay = call("test.height", [1]), call("test.pay", [HASH, "1.5"])
    async with running(tmp_path, sessions=sessions) as node:

        async def ask(headers: dict[str, str], **request: str) -> RawAnswer:
            async with raw(node.bound.port) as client:
                body = None if request.get("verb") == "GET" else height
                return await client.ask(body, headers=headers, **request)

        assert (await ask(cookie | right)).json()["result"] == 2
        async with raw(node.bound.port) as client:
            # Its cookie goes to every port of this host: it reads, and no more, whoever began it.
            assert (await client.ask(pay, headers=cookie | right)).status == 401
        for wrong in ({}, {"x-csrf-token": "00" * 32}, {"content-type": "text/plain"}):
            refused = await ask(cookie | wrong)
            assert (refused.status, refused.error()[1]) == (403, "BAD_CSRF")
        # A form could give it in a field; what reads no forms takes it for nobody's.
        form = {"content-type": "application/x-www-form-urlencoded"}
        for path in ("/rpc", "/"):
            refused = await ask(cookie | form, path=path)
            assert (refused.status, refused.error()[1]) == (401, "UNAUTHORIZED")
        assert (await ask(cookie | form | right)).status == 200
        assert (await ask(right)).status == 401
        for wrong_type in ({"content-type": "a"}, form):
            twice = "\r\n".join(f"{name}: {value}" for name, value in wrong_type.items())
            doubled = await ask(cookie | {"content-type": f"text/plain\r\n{twice}"})
            assert doubled.status == 400
        sessions.log_out(login.session, secure=False)
        assert (await ask(cookie | right)).status == 401
        begun = sessions.begin(NODE_OWNER, secure=False).set_cookie.partition(";")[0]
    # Another start knows none of them.
    async with running(tmp_path) as node, raw(node.bound.port) as client:
        assert (await client.ask(height, headers={"cookie": begun} | right)).status == 401


@trio_test
async def test_user_and_password_come_from_the_configuration(tmp_path: Path) -> None:
    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, user="ada", password=PasswordHash.of("lovelace"))

    async with running(tmp_path, change=change) as node:
        place = Endpoint.at(node.bound.url)
        ada = TrioClient(place.with_password("ada", "lovelace"))
        assert (await ada.call("test.pay", [HASH, "0.00000001"]))["value"] == "0.00000001"
        with pytest.raises(UnauthorizedError, match="wrong"):
            await TrioClient(place.with_password("ada", "byron")).call("test.echo", [1])
        assert "lovelace" not in repr(node.log)
        assert "byron" not in repr(node.log)


@trio_test
async def test_reading_can_be_opened_to_everyone(tmp_path: Path) -> None:
    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, open_read=True)

    async with running(tmp_path, change=change) as node, raw(node.bound.port) as client:
        assert (await client.ask(call("test.height", [1]))).json()["result"] == 2
        assert (await client.ask(call("test.pay", [HASH, "0.00000001"]))).status == 401


@trio_test
async def test_further_host_names_can_be_allowed(tmp_path: Path) -> None:
    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, names=("node.example",))

    async with running(tmp_path, change=change) as node, raw(node.bound.port) as client:
        named = {"host": "Node.Example:9332"}
        assert (await client.ask(call("test.echo", [1]), headers=named)).status == 200


@trio_test
async def test_health_and_readiness(tmp_path: Path) -> None:
    async with running(tmp_path) as node, raw(node.bound.port) as client:
        answer = await client.ask(verb="GET", path="/healthz")
        health = answer.json()
        assert (answer.status, health.pop("status")) == (200, "ok")
        assert set(health) == {"turn_seconds"}
        answer = await client.ask(verb="GET", path="/readyz")
        assert (answer.status, answer.json()["ready"]) == (200, True)
        node.readiness.append(Readiness(False, {"synced": "412 anchors behind", "disk": "ok"}))
        answer = await client.ask(verb="GET", path="/readyz")
        assert answer.status == 503
        assert answer.json()["checks"]["synced"] == "412 anchors behind"
        assert (await client.ask(verb="HEAD", path="/healthz")).status == 200


async def who(request: Request) -> Response:
    return PlainTextResponse(
        f"{request.path_params['name']} {caller_of(request.scope).access.name}"
    )


async def broken(request: Request) -> Response:
    raise ZeroDivisionError("a detail for the log alone")


@trio_test
async def test_pages_of_other_rooms(tmp_path: Path) -> None:
    pages = [
        WebPage("/who/{name}", who, Access.PUBLIC),
        WebPage("/private", broken),
        WebPage("/broken", broken, Access.PUBLIC),
    ]
    async with running(tmp_path, pages=pages) as node:
        async with raw(node.bound.port) as client:
            assert (await client.ask(verb="GET", path="/who/ada")).body == b"ada PUBLIC"
            read = await client.ask(verb="GET", path="/who/ada", headers=token(node))
            assert read.body == b"ada READ"
            answer = await client.ask(verb="GET", path="/broken")
            assert answer.status == 500
            assert b"detail" not in answer.body
            assert (await client.ask(verb="GET", path="/private")).status == 401
        async with raw(node.bound.port) as client:
            assert (await client.ask(verb="POST", path="/who/ada")).status == 405
        async with raw(node.bound.port) as client:
            assert (await client.ask(verb="GET", path="/nothing")).status == 404
        failed = [entry for entry in node.log if entry["level"] == "error"]
        assert [entry["event"] for entry in failed] == ["rpc.page_failed"]


@trio_test
async def test_events_are_gapless_across_a_reconnect(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        for height in range(1, 4):
            node.events.append("chain.connected", {"height": height})
        async with node.client.events(since=0) as entries:
            first = [await anext(entries) for _ in range(3)]
            node.events.append("chain.connected", {"height": 4})
            first.append(await anext(entries))
        await until(lambda: node.events.readers == 0)
        node.events.append("chain.connected", {"height": 5})
        async with node.client.events(since=first[-1].sequence) as entries:
            first.append(await anext(entries))
        assert [entry.sequence for entry in first] == [1, 2, 3, 4, 5]
        assert [entry.data["height"] for entry in first] == [1, 2, 3, 4, 5]
        assert {entry.kind for entry in first} == {"chain.connected"}


@trio_test
async def test_the_last_event_id_goes_before_the_query(tmp_path: Path) -> None:
    async with running(tmp_path) as node, raw(node.bound.port) as client:
        for number in range(1, 4):
            node.events.append("n", number)
        headers = {**token(node), "last-event-id": "2"}
        await client.send(client.request(verb="GET", path="/events?since=0", headers=headers))
        assert b"text/event-stream" in await client.until(b"\r\n\r\n")
        assert b"id: 3\nevent: n\ndata: 3\n\n" in await client.until(b"data: 3\n\n")
        assert node.server.statistics().streams == 1
    assert node.events.readers == 0


@pytest.mark.parametrize(
    "query", ["since=x", "since=-1", "since=", "since=9" * 30, "from=1", "since=٣"]
)
@trio_test
async def test_wrong_sequence_numbers_are_refused(tmp_path: Path, query: str) -> None:
    async with running(tmp_path) as node, raw(node.bound.port) as client:
        path = "/events?" + query.encode("utf-8").decode("latin-1")
        answer = await client.ask(verb="GET", path=path, headers=token(node))
        assert answer.status == 400


@trio_test
async def test_a_log_that_begins_later_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as node, raw(node.bound.port) as client:
        node.events.oldest = 100
        answer = await client.ask(verb="GET", path="/events?since=5", headers=token(node))
        assert (answer.status, *answer.error()) == (410, -32001, "EVENTS_GONE")
        assert answer.json()["error"]["data"]["oldest"] == 100
        assert "begins at 100, ends at 99" in answer.json()["error"]["message"]


@trio_test
async def test_quiet_streams_beat_and_have_a_limit(tmp_path: Path) -> None:
    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, streams=1, heartbeat_seconds=0.02)

    async with running(tmp_path, change=change) as node:
        async with raw(node.bound.port) as client, raw(node.bound.port) as second:
            await client.send(client.request(verb="GET", path="/events", headers=token(node)))
            for _ in range(5):
                await client.until(b": still here\n\n")
            answer = await second.ask(verb="GET", path="/events", headers=token(node))
            assert (answer.status, *answer.error()) == (429, -32004, "BUSY")
            async with raw(node.bound.port) as third:
                # Whoever has less takes no place of the owner.
                cookie = base64.b64encode((tmp_path / "rpc.cookie").read_bytes()).decode()
                owner = {"authorization": f"Basic {cookie}"}
                await third.send(third.request(verb="GET", path="/events", headers=owner))
                await third.until(b": still here\n\n")
                assert node.server.statistics().streams == 2
        await until(lambda: node.events.readers == 0)
        assert node.server.statistics().streams == 0


@trio_test
async def test_a_reader_too_slow_for_the_log_is_dropped(tmp_path: Path) -> None:
    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, http=replace(settings.http, write_seconds=0.2))

    async with running(tmp_path, change=change) as node, raw(node.bound.port) as client:
        for _ in range(100):
            node.events.append("big", "x" * 200_000)
        await client.send(client.request(verb="GET", path="/events?since=0", headers=token(node)))
        await until(lambda: any(entry["event"] == "rpc.slow_client" for entry in node.log))
        await until(lambda: node.events.readers == 0)
        assert await node.client.call("test.echo", [1]) == 1


@trio_test
async def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with running(first) as node:
        with pytest.raises(ExceptionGroup) as caught:
            async with running(
                second, change=lambda settings: replace(settings, port=node.bound.port)
            ):
                pass
        (error,) = caught.value.exceptions
        assert isinstance(error, ListenError)
        assert str(error).startswith(
            f"cannot listen for RPC on 127.0.0.1:{node.bound.port}: Address already in use"
        )
        assert names(second) == []
        assert await node.client.call("test.echo", [1]) == 1


@pytest.mark.parametrize(
    ("host", "port"), [("203.0.113.1", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 70000)]
)
@trio_test
async def test_an_address_of_another_machine_is_one_clear_error(
    tmp_path: Path, host: str, port: int
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with running(
            tmp_path, change=lambda settings: replace(settings, host=host, port=port)
        ):
            pass
    (error,) = caught.value.exceptions
    assert isinstance(error, ListenError)
    assert "\n" not in str(error)


@trio_test
async def test_listening_beyond_this_machine_is_warned_of(tmp_path: Path) -> None:
    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, host="0.0.0.0")

    async with running(tmp_path, change=change) as node:
        assert [entry["event"] for entry in node.log] == ["rpc.listening", "rpc.exposed"]
        assert node.bound.url.startswith("http://127.0.0.1:")
        assert await node.client.call("test.echo", [1]) == 1


async def start_apart(
    nursery: trio.Nursery, directory: Path, stop_seconds: float = 0.1
) -> RunningServer:
    """Run a server in a task of its own, so that the test goes on when it stops."""

    def change(settings: RpcSettings) -> RpcSettings:
        return replace(settings, http=replace(settings.http, stop_seconds=stop_seconds))

    async def run(task_status: trio.TaskStatus[RunningServer]) -> None:
        async with running(directory, change=change) as node:
            task_status.started(node)
            await trio.sleep_forever()

    started: RunningServer = await nursery.start(run)
    return started


@trio_test
async def test_stopping_gives_up_what_does_not_end(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        node = await start_apart(nursery, tmp_path)
        async with raw(node.bound.port) as calling, raw(node.bound.port) as stuck:
            await calling.send(calling.request(call("test.wait")))
            await stuck.send(stuck.request(call("test.long", [8_000_000])))
            await until(lambda: node.room.waiting == 1)
            await until(lambda: node.server.statistics().methods.get("test.long"))
            node.stop()
            assert await calling.closed() == b""
            await stuck.closed()
    assert node.room.waiting == 0
    assert names(tmp_path) == ["rpc.token"]


@trio_test
async def test_the_call_that_stops_the_server_is_answered(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        node = await start_apart(nursery, tmp_path)
        assert await node.client.call("test.stop") is True
    assert names(tmp_path) == ["rpc.token"]


@trio_test
async def test_what_only_waits_ends_at_once_when_the_server_stops(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        node = await start_apart(nursery, tmp_path, stop_seconds=1000)
        async with raw(node.bound.port) as polling, raw(node.bound.port) as idle:
            await polling.send(polling.request(call("test.poll")))
            await until(lambda: node.room.waiting == 1)
            async with node.client.events() as entries:
                await until(lambda: node.events.readers == 1)
                node.stop()
                with pytest.raises((StopAsyncIteration, UnreachableError)):
                    await anext(entries)
            await polling.closed()
            assert await idle.closed() == b""


@trio_test
async def test_nothing_reaches_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path, pages=[WebPage("/broken", broken, Access.PUBLIC)]) as node:
        async with raw(node.bound.port) as client:
            await client.ask(call("test.bug"))
            await client.ask(verb="GET", path="/broken")
        async with raw(node.bound.port) as client:
            await client.send(b"\x00\r\n\r\n")
            await client.closed()
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("hypercorn.error").handlers
    assert not logging.getLogger("hypercorn.access").handlers


@trio_test
async def test_a_stale_data_directory_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "rpc.cookie").write_text("__cookie__:of a node that was killed")
    (tmp_path / "rpc.url").write_text("http://127.0.0.1:1")
    async with running(tmp_path) as node:
        assert await node.client.call("test.echo", [1]) == 1


@trio_test
async def test_a_token_file_of_rubbish_stops_the_start(tmp_path: Path) -> None:
    write_private(tmp_path / "rpc.token", b"x")
    _, log = captured()
    server = Server(
        registry(SampleRoom(), version="0", runner=InlineRunner()),
        settings=RpcSettings(tmp_path),
        runner=ThreadRunner(1),
        log=log,
        readiness=Reports(),
    )
    with pytest.raises(ValueError, match="delete it"):
        await server.serve()
    assert names(tmp_path) == ["rpc.token"]


@trio_test
async def test_a_node_without_a_log_says_so(tmp_path: Path) -> None:
    _, log = captured()
    server = Server(
        registry(SampleRoom(), version="0", runner=InlineRunner()),
        settings=RpcSettings(tmp_path, open_read=True),
        runner=ThreadRunner(1),
        log=log,
        readiness=Reports(),
    )
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(lambda task_status: server.serve(task_status=task_status))
        async with raw(bound.port) as client:
            answer = await client.ask(verb="GET", path="/events")
            assert (answer.status, *answer.error()) == (404, -32010, "UNAVAILABLE")
        nursery.cancel_scope.cancel()


def test_structlog_is_not_configured_by_importing() -> None:
    assert not structlog.is_configured()
