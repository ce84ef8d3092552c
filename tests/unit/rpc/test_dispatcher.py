"""JSON-RPC without HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import trio_test, wait_all_tasks_blocked

from tests.framework.endless_token import endless_rights
from tests.framework.rpc_raw import call
from tests.framework.rpc_server import SampleRoom, captured
from unchained.node.base.runner import InlineRunner
from unchained.node.rpc.core.call_places import CallLimits
from unchained.node.rpc.core.dispatcher import Dispatcher, read_json
from unchained.node.rpc.core.errors import NotFoundError, ParseError, WalletRefusedError
from unchained.node.rpc.core.openrpc import registry
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import NODE_OWNER, STRANGER, Caller


def dispatcher(room: SampleRoom, **limits: int) -> tuple[Dispatcher, list[dict[str, Any]]]:
    entries, log = captured()
    made = Dispatcher(
        registry(room, version="0", runner=InlineRunner()),
        limits=replace(CallLimits(), **limits),
        log=log,
        translations=[(LookupError, lambda error: NotFoundError(str(error), error="NO_WALLET"))],
    )
    return made, entries


async def ask(made: Dispatcher, body: bytes, access: Access = Access.FULL) -> Any:
    answer = await made.answer(body, Caller(access))
    return msgspec.json.decode(answer.body) if answer.body else None


@trio_test
async def test_a_call_is_answered_under_its_id() -> None:
    made, _ = dispatcher(SampleRoom())
    for identity in (1, "a", None, -5, 0, ""):
        reply = await ask(made, call("test.height", [4], identity))
        assert reply == {"jsonrpc": "2.0", "result": 5, "id": identity}


@trio_test
async def test_notifications_are_carried_out_in_silence() -> None:
    made, _ = dispatcher(SampleRoom())
    notice = b'{"jsonrpc": "2.0", "method": "test.height", "params": [1]}'
    wrong = b'{"jsonrpc": "2.0", "method": "test.nothing"}'
    answer = await made.answer(notice, NODE_OWNER)
    assert (answer.status, answer.body) == (204, b"")
    assert (await made.answer(b"[" + notice + b"," + wrong + b"]", NODE_OWNER)).status == 204
    assert len(await ask(made, b"[" + notice + b"," + call("test.height", [1]) + b"]")) == 1
    assert made.statistics().methods["test.height"].calls == 4


@pytest.mark.parametrize(
    ("name", "params", "code", "word"),
    [
        ("test.nothing", [], -32601, "METHOD_NOT_FOUND"),
        ("test.height", ["x"], -32602, "INVALID_PARAMS"),
        ("test.height", 5, -32602, "INVALID_PARAMS"),
        ("test.height", [2000], -32001, "NOT_FOUND"),
        ("test.rule", [], -32000, "NON_CANONICAL"),
        ("test.grouped_rule", [], -32000, "NON_CANONICAL"),
        ("test.bug", [], -32603, "INTERNAL_ERROR"),
        ("test.other", [], -32001, "NO_WALLET"),
        ("test.unsayable", [], -32603, "INTERNAL_ERROR"),
        ("test.slow", [], -32007, "TIMED_OUT"),
    ],
)
@trio_test
async def test_failures_have_code_and_word(name: str, params: Any, code: int, word: str) -> None:
    made, _ = dispatcher(SampleRoom())
    reply = await ask(made, call(name, params))
    assert (reply["error"]["code"], reply["error"]["data"]["error"]) == (code, word)
    assert reply["id"] == 1


@trio_test
async def test_a_broken_rule_says_what_was_expected() -> None:
    made, _ = dispatcher(SampleRoom())
    error = (await ask(made, call("test.rule")))["error"]
    assert error["data"] == {"error": "NON_CANONICAL", "expected": 198, "actual": "0102"}


@trio_test
async def test_a_bug_is_shown_in_the_log_alone() -> None:
    made, entries = dispatcher(SampleRoom())
    answer = await made.answer(call("test.bug"), NODE_OWNER)
    assert b"detail" not in answer.body
    (entry,) = entries
    assert entry["event"] == "rpc.failed"
    assert entry["method"] == "test.bug"
    assert entry["error"] == "ZeroDivisionError"
    assert entry["text"] == "a detail for the log alone"
    assert "rpc_server.py" in entry["where"]


@trio_test
async def test_a_failure_of_a_method_with_secrets_keeps_its_text_to_itself() -> None:
    made, entries = dispatcher(SampleRoom())
    answer = await made.answer(call("test.unlock", ["sesame"]), NODE_OWNER)
    assert b"sesame" not in answer.body
    assert entries[0]["event"] == "rpc.failed"
    assert "sesame" not in repr(entries)


@trio_test
async def test_access_is_asked_for_before_anything_else() -> None:
    made, _ = dispatcher(SampleRoom())
    for name, access, allowed in [
        ("test.echo", Access.PUBLIC, True),
        ("test.height", Access.PUBLIC, False),
        ("test.height", Access.READ, True),
        ("test.pay", Access.PUBLIC, False),
        ("test.pay", Access.READ, False),
        ("test.pay", Access.FULL, True),
    ]:
        error = (await ask(made, call(name, {"no": "such"}), access))["error"]
        assert error["data"]["error"] == ("INVALID_PARAMS" if allowed else "UNAUTHORIZED")


@trio_test
async def test_answers_have_a_limit() -> None:
    made, _ = dispatcher(SampleRoom(), answer_bytes=1000)
    reply = await ask(made, call("test.long", [2000]))
    assert reply["error"]["data"] == {"error": "TOO_LARGE", "limit": 1000}
    one = call("test.long", [600])
    replies = await ask(made, b"[" + b",".join([one] * 3) + b"]")
    assert ["result" in reply for reply in replies] == [True, False, False]
    assert made.statistics().methods["test.long"].calls == 3


async def test_a_slow_call_is_given_up_and_leaves_no_trace() -> None:
    room = SampleRoom()

    made, _ = dispatcher(room)
    reply = await ask(made, call("test.wait"))
    assert reply["error"]["data"] == {"error": "TIMED_OUT", "limit": 30.0}
    assert room.waiting == 0
    assert made.statistics().methods["test.wait"].seconds == pytest.approx(30)
    assert made.statistics().methods["test.wait"].errors == 1


@trio_test
async def test_long_polls_are_counted_apart_and_end_with_their_caller() -> None:
    room = SampleRoom()
    made, _ = dispatcher(room, calls=1, long_polls=2)
    gone = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(made.answer, call("test.poll"), NODE_OWNER, gone.wait)
        await wait_all_tasks_blocked()
        assert room.waiting == 2
        assert (await ask(made, call("test.poll")))["error"]["data"]["error"] == "BUSY"
        assert (await ask(made, call("test.echo", [1])))["result"] == 1
        gone.set()
    assert room.waiting == 0


@trio_test
async def test_calls_of_tokens_take_no_place_of_the_owners() -> None:
    room = SampleRoom()
    made, _ = dispatcher(room, calls=1, queued=0, token_calls=2, token_queued=1)
    bearer = Caller(Access.PUBLIC, endless_rights("shop"))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(made.answer, call("test.wait"), bearer)
        await wait_all_tasks_blocked()
        assert room.waiting == 2
        answer = await made.answer(call("test.echo", [1]), bearer)
        assert msgspec.json.decode(answer.body)["error"]["data"]["error"] == "BUSY"
        assert (await ask(made, call("test.echo", [1])))["result"] == 1
        nursery.cancel_scope.cancel()


STRANGER_READING = Caller(Access.READ, is_known=False)
CALLERS = {
    "the owner": NODE_OWNER,
    "the read-only token": Caller(Access.READ),
    "the miners' token": Caller(Access.MINE),
    "a wallet's token": Caller(Access.PUBLIC, endless_rights("shop")),
    "a stranger": STRANGER,
    "a stranger to whom reading is open": STRANGER_READING,
}


@pytest.mark.parametrize("name", ["test.wait", "test.poll"])
@pytest.mark.parametrize("who", [who for who in CALLERS if who != "the owner"])
@trio_test
async def test_nobody_takes_the_places_of_the_owner(who: str, name: str) -> None:
    room = SampleRoom()
    made, _ = dispatcher(room, calls=1, queued=0, long_polls=1)
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(made.answer, call(name), CALLERS[who])
        await wait_all_tasks_blocked()
        assert room.waiting < 16
        answer = await made.answer(call(name), CALLERS[who])
        assert msgspec.json.decode(answer.body)["error"]["data"]["error"] == "BUSY"
        nursery.start_soon(made.answer, call(name), NODE_OWNER)
        before = room.waiting
        await wait_all_tasks_blocked()
        assert room.waiting == before + 1
        nursery.cancel_scope.cancel()


@trio_test
async def test_the_tokens_of_one_wallet_leave_room_for_those_of_another() -> None:
    room = SampleRoom()
    made, _ = dispatcher(room, token_calls=2, token_queued=6, one_token_calls=3)
    async with trio.open_nursery() as nursery:
        for wallet in ("shop", "till"):
            for _ in range(5):
                bearer = Caller(Access.PUBLIC, endless_rights(wallet))
                nursery.start_soon(made.answer, call("test.wait"), bearer)
        await wait_all_tasks_blocked()
        words = made.statistics().methods["test.wait"].words
        assert words == {"BUSY": 4}
        room.gate.set()
    assert (await made.answer(call("test.wait"), CALLERS["a wallet's token"])).status == 200


@pytest.mark.parametrize("as_batch", [False, True])
@trio_test
async def test_who_has_nothing_is_answered_a_part_of_what_others_are(as_batch: bool) -> None:
    made, _ = dispatcher(SampleRoom(), public_answer_bytes=10_000)
    asked = call("test.long", [4_000])
    body = b"[" + b",".join([asked] * 5) + b"]" if as_batch else call("test.long", [20_000])
    answer = await made.answer(body, STRANGER)
    assert len(answer.body) < 11_500
    assert b"TOO_LARGE" in answer.body
    for caller in (NODE_OWNER, STRANGER_READING, CALLERS["a wallet's token"]):
        answer = await made.answer(body, caller)
        assert len(answer.body) > 20_000
        assert b"TOO_LARGE" not in answer.body


@trio_test
async def test_a_long_poll_gives_its_result() -> None:
    room = SampleRoom()
    made, _ = dispatcher(room)
    room.gate.set()
    assert (await ask(made, call("test.poll")))["result"] is True


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab:"\\{}[]é'), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_others_read_it(value: Any) -> None:
    assert read_json(json.dumps(value).encode(), 100) == value
    assert read_json(json.dumps(value, ensure_ascii=False, indent=1).encode(), 100) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        value = read_json(body, 32)
    except ParseError:
        return
    assert json.loads(body) == value


@pytest.mark.parametrize("depth", [1, 2, 31, 32])
def test_depth_is_counted_to_the_level(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        inner = b"0" if closing == b"}" else b""
        body = opening * depth + inner + closing * depth
        read_json(body, depth)
        with pytest.raises(ParseError, match="nested deeper"):
            read_json(body, depth - 1)


def test_errors_of_one_family_can_carry_other_words() -> None:
    error = WalletRefusedError("the wallet is locked", error="WALLET_LOCKED", wallet="main")
    assert error.data == {"error": "WALLET_LOCKED", "wallet": "main"}
