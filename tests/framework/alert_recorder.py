"""Records the series of a node while something goes wrong, and asks promtool what fires.

Virtual time: a sample of every metric is taken each `STEP_S` seconds, as Prometheus would scrape
it. What is written is a file of `promtool test rules`; nothing in it is typed by hand.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from unchained.node.base.latency import LatencyStatistics
from unchained.node.observe.alerts import RULES_FILE, Alert
from unchained.node.observe.metric import samples_of
from unchained.node.observe.metric_table import METRICS
from unchained.node.observe.node_statistics import NodeStatistics

ROOT = Path(__file__).parents[2]
STEP_S = 15
LABELS = 'instance="127.0.0.1:8645",job="unchained"'


def promtool() -> str | None:
    """Return where promtool is, None where it is not to be had."""
    return os.environ.get("UNCHAINED_PROMTOOL") or shutil.which("promtool")


def prometheus() -> str | None:
    """Return where Prometheus itself is: its package holds both."""
    beside = Path(promtool() or "").with_name("prometheus")
    return str(beside) if beside.is_file() else shutil.which("prometheus")


def names_in(expression: str) -> set[str]:
    """Return the metrics that a query names, histograms without their ending."""
    found = set(re.findall(r"\bunchained_\w+", expression))
    return {re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", name) for name in found}


class AlertRecorder:
    """The series of one alert's rule, from the present on."""

    def __init__(self, alert: Alert, read: Callable[[], NodeStatistics]) -> None:
        self.alert = alert
        self._read = read
        self._metrics = [metric for metric in METRICS if metric.name in names_in(alert.expr)]
        self._values: dict[str, list[str]] = {}
        self._steps = 0
        self._began = trio.current_time()
        self.broke_at: int | None = None
        self.healed_at: int | None = None

    async def watch(self, seconds: float) -> None:
        """Take samples for so many seconds."""
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            self.sample()
            await trio.sleep_until(self._began + self._steps * STEP_S)

    def sample(self) -> None:
        """Take one sample of each metric."""
        statistics = self._read()
        for metric in self._metrics:
            samples = samples_of(metric, statistics)
            assert not isinstance(samples, LatencyStatistics), "rules here use no histograms"
            for values, number in samples.items():
                labels = "".join(
                    f',{name}="{value}"' for name, value in zip(metric.labels, values, strict=True)
                )
                row = self._values.setdefault(f"{metric.name}{{{LABELS}{labels}}}", [])
                row += ["_"] * (self._steps - len(row))
                row.append(repr(number))
        self._steps += 1

    def break_now(self) -> None:
        """Note that the fault begins."""
        self.broke_at = self._steps

    def heal_now(self) -> None:
        """Note that the fault is mended."""
        self.healed_at = self._steps

    async def through_fault(self) -> None:
        """Watch from the fault's beginning for as long as the alert may take to fire."""
        self.break_now()
        await self.watch(self.alert.within_s)

    async def through_healing(self) -> None:
        """Watch from the mending for as long as the alert may take to clear."""
        self.heal_now()
        await self.watch(self.alert.within_s)

    def rule_test(self) -> dict[str, object]:
        """Return the file that promtool reads: silent before, firing within the alert's time, and
        silent again within it after the fault was mended."""
        assert self._values, f"{self.alert.name}: no series was recorded"
        assert self.broke_at is not None
        assert self.healed_at is not None
        firing = f'count(ALERTS{{alertname="{self.alert.name}",alertstate="firing"}})'
        states = (
            (self.broke_at - 1, False),
            (self.healed_at - 1, True),
            (self._steps - 1, False),
        )
        return {
            "rule_files": [str(ROOT / RULES_FILE)],
            "evaluation_interval": f"{STEP_S}s",
            "tests": [
                {
                    "name": self.alert.name,
                    "interval": f"{STEP_S}s",
                    "input_series": [
                        {"series": name, "values": " ".join(values)}
                        for name, values in self._values.items()
                    ],
                    "promql_expr_test": [
                        {
                            "expr": firing,
                            "eval_time": f"{max(step, 0) * STEP_S}s",
                            "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                        }
                        for step, fires in states
                    ],
                }
            ],
        }


def check_rule(recorder: AlertRecorder, directory: Path) -> None:
    """Write the rule's test and let promtool run it; fails with what promtool says."""
    path = directory / f"{recorder.alert.name}.json"
    # JSON is YAML.
    path.write_bytes(msgspec.json.format(msgspec.json.encode(recorder.rule_test())))
    tool = promtool()
    assert tool is not None, "promtool is missing: scripts/test alerts installs it"
    done = subprocess.run(
        [tool, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{path}\n{done.stdout}{done.stderr}"
