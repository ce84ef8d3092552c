"""`GET /metrics`: every metric in the OpenMetrics format, for Prometheus."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from unchained.node.base.config import PageAccess
from unchained.node.base.latency import LatencyStatistics
from unchained.node.base.runner import Runner
from unchained.node.observe.metric import Metric, samples_of
from unchained.node.observe.metric_table import BUILD_INFO, METRICS
from unchained.node.observe.node_observer import NodeObserver
from unchained.node.observe.node_statistics import NodeStatistics
from unchained.node.rpc.core.registry import Access
from unchained.node.rpc.http.asgi import caller_of
from unchained.node.rpc.http.web_site import WebPage
from unchained.node.rpc.web.admission import is_of_this_machine

SHORT_ID_CHARACTERS: Final = 12
"""Of an anchor's id, in exemplars."""

PATH: Final = "/metrics"


def metrics_text(statistics: NodeStatistics) -> bytes:
    """Return all metrics of a snapshot in the OpenMetrics text format."""
    # Only here: a node that nobody scrapes does without.
    from prometheus_client.openmetrics.exposition import generate_latest

    families = list(_families(statistics))

    class Collector:
        def collect(self) -> Iterator[object]:
            return iter(families)

    text: bytes = generate_latest(Collector())  # type: ignore[no-untyped-call]
    return text


def _families(statistics: NodeStatistics) -> Iterator[object]:
    from prometheus_client.core import (
        CounterMetricFamily,
        Exemplar,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    build = GaugeMetricFamily(
        BUILD_INFO, "Versions of the node.", labels=("version", "python", "network")
    )
    network = "" if statistics.rules is None else statistics.rules.name
    build.add_metric((version("unchained"), platform.python_version(), network), 1)
    yield build
    status = statistics.status
    labels = {"height": str(status.height), "anchor": status.tip.hex()[:SHORT_ID_CHARACTERS]}
    for metric in METRICS:
        samples = samples_of(metric, statistics)
        if isinstance(samples, LatencyStatistics):
            histogram = HistogramMetricFamily(metric.name, metric.help, unit=_unit(metric))
            histogram.add_metric((), _buckets(samples), samples.seconds)
            yield histogram
        elif samples and metric.kind == "counter":
            counter = CounterMetricFamily(
                metric.name, metric.help, labels=metric.labels, unit=_unit(metric)
            )
            for values, number in samples.items():
                exemplar = Exemplar(labels, number) if metric.has_exemplar and number else None
                counter.add_metric(values, number, exemplar=exemplar)
            yield counter
        elif samples:
            gauge = GaugeMetricFamily(
                metric.name, metric.help, labels=metric.labels, unit=_unit(metric)
            )
            for values, number in samples.items():
                gauge.add_metric(values, number)
            yield gauge


def _unit(metric: Metric) -> str:
    """Return the unit as the format has it: one that the name ends in, or none."""
    name = metric.name.removesuffix("_total")
    return metric.unit if metric.unit and name.endswith(f"_{metric.unit}") else ""


def _buckets(found: LatencyStatistics) -> list[tuple[str, float]]:
    """Return what took at most as long, for each bound."""
    bounds = [*map(repr, map(float, found.bounds_s)), "+Inf"]
    return list(zip(bounds, accumulate(found.counts), strict=True))


class MetricsPage:
    """Answers Prometheus. `page`: whether callers of this machine need a token."""

    def __init__(self, observer: NodeObserver, runner: Runner, page: PageAccess) -> None:
        self._observer = observer
        self._runner = runner
        self._page = page

    async def answer(self, request: Request) -> Response:
        """Return the metrics, or why not, in one line."""
        if caller_of(request.scope).access < Access.READ and not self._is_open_to(request):
            return Response("this page needs the read-only token\n", 401, media_type="text/plain")
        # The loop is held for the snapshot alone: the library too is loaded in the thread.
        statistics = self._observer.statistics()
        text, media_type = await self._runner.run(self._render, statistics)
        return Response(text, headers={"cache-control": "no-store"}, media_type=media_type)

    def _render(self, statistics: NodeStatistics) -> tuple[bytes, str]:
        text = metrics_text(self._observer.complete(statistics))
        from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

        return text, CONTENT_TYPE_LATEST

    def _is_open_to(self, request: Request) -> bool:
        return self._page == "loopback" and is_of_this_machine(request.scope)


def metrics_pages(observer: NodeObserver, runner: Runner, page: PageAccess) -> list[WebPage]:
    """Return the page, or none where it is off."""
    if page == "off":
        return []
    # Who may see it is the page's own affair: this machine may need no token.
    return [WebPage(PATH, MetricsPage(observer, runner, page).answer, Access.PUBLIC)]
