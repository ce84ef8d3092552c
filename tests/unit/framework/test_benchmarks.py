"""The runner of the benchmarks: what it finds, shows and reports."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import hostile
from tests.framework import benchmarks
from tests.framework.benchmarks import KEYS, Result


def result(name: str, *, met: bool | None = True) -> Result:
    values: tuple[object, ...] = (
        name,
        "anchors/s",
        1234.5,
        1,
        2,
        3,
        "bare",
        1000,
        1.23,
        ">= 1",
        met,
    )
    return dict(zip(KEYS, values, strict=True))


def test_benchmarks_are_distinguished_from_their_helpers(tmp_path: Path) -> None:
    (tmp_path / "bench_open.py").write_text("\ndef run():\n    pass\n")
    (tmp_path / "pool.py").write_text("\ndef run():\n    pass\n")
    (tmp_path / "chains.py").write_text("\ndef make():\n    pass\n")
    (tmp_path / "_run.py").write_text("\ndef run():\n    pass\n")
    assert benchmarks.discover(tmp_path) == ["open", "pool"]


def test_one_that_raises_or_gives_another_shape_fails_and_the_others_go_on() -> None:
    def broken() -> list[Result]:
        raise RuntimeError("no store")

    errors = io.StringIO()
    results, failed = benchmarks.run_all(
        [("a", broken), ("b", lambda: [{"name": "b"}]), ("c", lambda: [result("c")])], errors
    )
    assert ([found["name"] for found in results], failed) == (["c"], ["a", "b"])
    assert "RuntimeError: no store" in errors.getvalue()
    assert "a result has the keys ['name']" in errors.getvalue()


def test_the_table_says_whether_the_goal_is_met() -> None:
    stream = io.StringIO()
    shown = benchmarks.table([result("pool"), result("open", met=False), result("x", met=None)])
    Console(file=stream, width=200).print(shown)
    lines = stream.getvalue().splitlines()
    assert any("pool" in line and "1,234 anchors/s" in line and "yes" in line for line in lines)
    assert any("open" in line and "no" in line for line in lines)


def test_results_are_printed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks, "discover", lambda _: ["pool"])
    monkeypatch.setattr(benchmarks, "load", lambda name: lambda: [result(name)])
    assert benchmarks.main([]) == 0
    assert json.loads(capsys.readouterr().out) == [result("pool")]
    file = tmp_path / "results.json"
    assert benchmarks.main(["pool", "--json", str(file)]) == 0
    assert json.loads(file.read_text()) == [result("pool")]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["frob"], 'scripts/bench: no "frob"; there are: '),
        (
            ["hostile:frob"],
            'scripts/bench: no part "frob" of hostile; there are: garbage_protobuf, ',
        ),
        (["pow:3"], 'scripts/bench: no part "3" of pow: it has none'),
        (["pow:"], 'scripts/bench: no part "" of pow: it has none'),
        (["--json"], "scripts/bench: argument --json: expected one argument"),
        (["--json", "/nonexistent/x"], "scripts/bench: argument --json: /nonexistent/x: there is "),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        benchmarks.main(arguments)
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_a_failed_benchmark_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> list[Result]:
        raise RuntimeError

    monkeypatch.setattr(benchmarks, "discover", lambda _: ["pool"])
    monkeypatch.setattr(benchmarks, "load", lambda _: broken)
    assert benchmarks.main([]) == 1
    assert capsys.readouterr().err.endswith("bench: failed: pool\n")


def test_one_part_of_a_benchmark_may_be_named() -> None:
    assert benchmarks.load("hostile") is hostile.run
    part = benchmarks.load("hostile:evictions")
    assert isinstance(part, partial)
    assert (part.func, part.args) == (hostile.run, ("evictions",))
    with pytest.raises(SystemExit, match=r"^2$"):
        benchmarks.main(["nothing:evictions"])
