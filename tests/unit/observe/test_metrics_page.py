"""`/metrics`: the format, the bounds, and who may see it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.requests import Request

from tests.framework.observed import observer_of
from tests.framework.simulation.simnet import simulate
from unchained.node.base.clock import SystemClock
from unchained.node.base.logs import Logs
from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.base.runner import InlineRunner
from unchained.node.observe.metrics_page import MetricsPage, metrics_text
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.http.asgi import CALLER

SAMPLES_ALONE_MAX = 400
SAMPLES_MAX = 2_000
LIBRARY = "prometheus_client"


def request(client: str | None, access: Access, headers: dict[str, str] | None = None) -> Request:
    given = {"host": "127.0.0.1:8811"} | (headers or {})
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/metrics",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": None if client is None else (client, 4000),
        "state": {CALLER: Caller(access)},
    }
    return Request(scope)


def samples(text: bytes) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text.decode()):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


async def test_a_node_alone_has_few_samples_and_they_are_open_metrics() -> None:
    async with simulate(21) as net:
        (node,) = await net.grow(1)
        await net.until(lambda: node.height >= 3, "three anchors high", 300)
        observer = observer_of(node)
        text = metrics_text(observer.complete(observer.statistics()))
        assert text.endswith(b"# EOF\n")
        found = samples(text)
        assert sum(map(len, found.values())) <= SAMPLES_ALONE_MAX
        assert found["unchained_chain_height"][0].value == node.height
        assert found["unchained_chain_tip_number"][0].value == int.from_bytes(node.tip[:6], "big")
        assert found["unchained_build_info"][0].labels["network"] == net.params.name
        exemplar = found["unchained_chain_anchors_connected_total"][0].exemplar
        assert exemplar.labels == {"height": str(node.height), "anchor": node.tip.hex()[:12]}
        assert found["unchained_process_resident_bytes"][0].value > 1_000_000
        buckets = [s.value for s in found["unchained_chain_epoch_interval_seconds_bucket"]]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found["unchained_chain_epoch_interval_seconds_count"][0].value > 0


async def test_a_hundred_and_twenty_eight_peers_do_not_add_samples_without_end() -> None:
    async with simulate(22) as net:
        node = net.node()
        await node.start()
        observer = observer_of(node)
        network = observer.network
        assert network is not None
        statistics = observer.statistics()
        alone = len(metrics_text(statistics).splitlines())
        # What peers can make grow: rules that they break, penalties that they get.
        rules = node.network.relay._rules
        for number in range(128):
            rules[f"RULE_{number}"] += 1
        node.network.peers.reputation.penalties.update(str(n) for n in range(128))
        text = metrics_text(observer.statistics())
        assert sum(map(len, samples(text).values())) <= SAMPLES_MAX
        assert len(text.splitlines()) < alone + 64


class ThreadAlone:
    """A runner that sees whether the library was loaded before its thread came to it."""

    def __init__(self) -> None:
        self.before: list[bool] = []

    async def run(self, work: Any, *args: Any) -> Any:
        self.before.append(any(name.startswith(LIBRARY) for name in sys.modules))
        return work(*args)


async def test_the_first_scrape_holds_the_loop_no_longer_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith(LIBRARY)]:
        monkeypatch.delitem(sys.modules, name)
    async with simulate(25) as net:
        node = net.node()
        await node.start()
        runner = ThreadAlone()
        page = MetricsPage(observer_of(node), runner, "loopback")
        answer = await page.answer(request("127.0.0.1", Access.PUBLIC))
        assert (answer.status_code, runner.before) == (200, [False])


async def test_whatever_grows_by_what_peers_do_is_bounded_by_the_metric() -> None:
    """Every mapping of the snapshot is blown up, whoever may be able to make it grow."""
    async with simulate(26) as net:
        nodes = await net.grow(2)
        await net.mingle(nodes, 1)
        observer = observer_of(nodes[0])
        observer.loop = LoopMonitor(Logs([], SystemClock()).log)
        observer.log = Logs([], SystemClock())
        full = blown_up(observer.complete(observer.statistics()))
        assert sum(map(len, samples(metrics_text(full)).values())) <= SAMPLES_MAX


def blown_up(value: Any) -> Any:
    """Return a snapshot in which each mapping of names to numbers has 500 more entries."""
    if isinstance(value, Mapping):
        grown = {key: blown_up(item) for key, item in value.items()}
        if grown and all(type(key) is str and type(n) is int for key, n in grown.items()):
            grown |= {f"more{number}": 1 for number in range(500)}
        return grown
    if not isinstance(value, msgspec.Struct):
        return value
    fields = {name: blown_up(getattr(value, name)) for name in value.__struct_fields__}
    return msgspec.structs.replace(value, **fields)


@pytest.mark.parametrize(
    ("page", "client", "access", "status"),
    [
        ("loopback", "127.0.0.1", Access.PUBLIC, 200),
        ("loopback", "::1", Access.PUBLIC, 200),
        ("loopback", "192.0.2.7", Access.PUBLIC, 401),
        ("loopback", "192.0.2.7", Access.READ, 200),
        ("loopback", None, Access.PUBLIC, 401),
        ("token", "127.0.0.1", Access.PUBLIC, 401),
        ("token", "127.0.0.1", Access.READ, 200),
    ],
)
async def test_who_may_see_it(page: Any, client: str | None, access: Access, status: int) -> None:
    async with simulate(23) as net:
        node = net.node()
        await node.start()
        answer = await MetricsPage(observer_of(node), InlineRunner(), page).answer(
            request(client, access)
        )
        assert answer.status_code == status
        body = bytes(answer.body)
        if status == 401:
            assert body == b"this page needs the read-only token\n"
        else:
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "192.0.2.7"},
        {"forwarded": "for=192.0.2.7"},
        {"x-real-ip": "192.0.2.7"},
        {"via": "1.1 proxy"},
        {"host": "node.example"},
    ],
)
async def test_who_asks_through_a_proxy_is_not_this_machine(headers: dict[str, str]) -> None:
    async with simulate(24) as net:
        node = net.node()
        await node.start()
        page = MetricsPage(observer_of(node), InlineRunner(), "loopback")
        answer = await page.answer(request("127.0.0.1", Access.PUBLIC, headers))
        assert answer.status_code == 401
        answer = await page.answer(request("127.0.0.1", Access.READ, headers))
        assert answer.status_code == 200
