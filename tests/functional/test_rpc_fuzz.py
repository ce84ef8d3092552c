"""Twenty thousand calls drawn from the description of the methods, of a whole node in one process:
nothing is answered by INTERNAL_ERROR, and every answer is what the description says.

The seed is printed; UNCHAINED_FUZZ_SEED=N draws the same calls again.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema

from tests.framework.answering_node import Process, answering
from tests.framework.endless_token import endless_rights
from tests.framework.rpc_drawer import Drawer
from tests.framework.simulation.simnet import SimNet, simulate
from unchained.node.base.randomness import SYSTEM
from unchained.node.rpc.core.errors import FAMILIES, InvalidParamsError
from unchained.node.rpc.core.registry import Access, Scope
from unchained.node.rpc.core.rights import NODE_OWNER, Caller
from unchained.node.rpc.http.server import Server

CALLS = 20_000
EACH = 100
"""Calls of every method at least."""

TEXT_MAX = 400
"""Characters of an error's message."""

ALWAYS = {
    "Busy",
    "Forbidden",
    "InvalidParams",
    "MethodNotFound",
    "NotReady",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
}
"""Families that any method may fail with, as docs/rpc.md says; a token's holder meets Forbidden."""


async def fuzzed_node(net: SimNet, folder: Path, process: Process) -> Server:
    """Return the server of a node that has a peer."""
    node, peer = net.node(name="fuzzed"), net.node(name="peer")
    await node.start()
    peer.bootstrap = (node.transport.address,)
    await peer.start()
    return await answering(net, node, folder, process)


class Fuzz:
    """Calls, and what they are answered with."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        self._dispatcher = server.dispatcher
        self._rng = rng
        self.calls: Counter[str] = Counter()
        self.past_checks = 0
        self.words: Counter[str] = Counter()
        self.faults: dict[tuple[str, str], str] = {}
        """What is wrong with answers, by method and kind: the first of each."""

    async def prepare(self) -> None:
        """Read the description, and give the wallet `default` coins."""
        document = (await self._ask("rpc.discover", {}))["result"]
        self.methods = {method["name"]: method for method in document["methods"]}
        self._registry = self._dispatcher.registry
        components = {"components": document["components"]}
        self._results = {
            name: jsonschema.Draft202012Validator({**method["result"]["schema"], **components})
            for name, method in self.methods.items()
        }
        self._drawer = Drawer(self._rng, document)
        self._code = {family.code: family for family in FAMILIES}
        await self._ask("wallet.create", {"passphrase": "pass"})
        await self._ask("wallet.unlock", {"passphrase": "pass", "seconds": 604_800})
        text = (await self._ask("wallet.address", {}))["result"]["text"]
        await self._ask("mine.generate", {"anchors": 4, "coins": 1, "address": text})
        for name in ("wallet.coins", "wallet.address", "wallet.paycode", "chain.tip", "net.peers"):
            self._drawer.remember((await self._ask(name, {}))["result"])

    async def call(self, name: str) -> None:
        """Draw a call of a method, and check its answer."""
        params = self._drawer.params(name)
        request = {"jsonrpc": "2.0", "id": self.calls.total(), "method": name, "params": params}
        caller = self._caller()
        answer = await self._dispatcher.answer(json.dumps(request).encode(), caller)
        self.calls[name] += 1
        reply = json.loads(answer.body)
        self.past_checks += self._passes(name, params)
        fault = self._fault(name, request, reply)
        if fault:
            kind = fault.partition(":")[0]
            shown = f"{fault}: {json.dumps(request)[:500]} was answered with {answer.body[:500]!r}"
            self.faults.setdefault((name, kind), shown)

    def _fault(self, name: str, request: dict[str, Any], reply: dict[str, Any]) -> str:
        """Return what is wrong with an answer, beginning with its kind; empty: nothing."""
        if (reply["jsonrpc"], reply["id"]) != ("2.0", request["id"]):
            return "not an answer to it"
        if "result" in reply:
            self.words[""] += 1
            self._drawer.remember(reply["result"])
            error = next(self._results[name].iter_errors(reply["result"]), None)
            return "" if error is None else f"not as described: {error.message[:300]}"
        error = reply["error"]
        word, text = error["data"]["error"], error["message"]
        self.words[word] += 1
        if word == "INTERNAL_ERROR" or not word.isupper():
            return f"{word}: a bug"
        if not 0 < len(text) <= TEXT_MAX or len(text.splitlines()) != 1:
            return "not one line"
        family = self._code[error["code"]].family
        declared = {entry["$ref"].rsplit("/", 1)[-1] for entry in self.methods[name]["errors"]}
        return "" if family in declared | ALWAYS else f"{family}: not declared"

    def _passes(self, name: str, params: Any) -> bool:
        try:
            self._registry.find(name).check(params)
        except InvalidParamsError:
            return False
        return True

    def _caller(self) -> Caller:
        if self._rng.random() < 0.9:
            return NODE_OWNER
        scopes = frozenset(self._rng.sample(list(Scope), self._rng.randint(1, 3)))
        wallet = self._rng.choice(("default", "a", "none"))
        return Caller(Access.PUBLIC, endless_rights(wallet, *scopes))

    async def _ask(self, name: str, params: dict[str, Any]) -> Any:
        request = {"jsonrpc": "2.0", "id": 0, "method": name, "params": params}
        answer = await self._dispatcher.answer(json.dumps(request).encode(), NODE_OWNER)
        reply = json.loads(answer.body)
        assert "result" in reply, reply
        return reply


async def test_whatever_is_asked_is_answered_as_it_is_described(tmp_path: Path) -> None:
    given = os.environ.get("UNCHAINED_FUZZ_SEED")
    seed = SYSTEM.below(2**32) if given is None else int(given)
    print(f"UNCHAINED_FUZZ_SEED={seed}")
    rng = random.Random(seed)
    process = Process()
    async with simulate(seed) as net:
        server = await fuzzed_node(net, tmp_path, process)
        fuzz = Fuzz(server, rng)
        await fuzz.prepare()
        names = sorted(fuzz.methods)
        drawn = [name for name in names for _ in range(EACH)]
        drawn += rng.choices(names, k=max(CALLS - len(drawn), 0))
        rng.shuffle(drawn)
        for name in drawn:
            await fuzz.call(name)
    assert list(fuzz.faults.values()) == []
    assert fuzz.calls.total() >= CALLS
    assert min(fuzz.calls[name] for name in names) >= EACH
    assert fuzz.past_checks >= CALLS / 2
    assert fuzz.words[""] >= CALLS / 10
    assert process.stops
