"""The plot of mining rates is made from what the benchmark printed."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.framework.mining_plot import main, read, series, svg

ROOT = Path(__file__).parents[3]


def report(mem_kib: int, cpu: str = "A & B", counts: int = 2) -> str:
    results = [
        {
            "workers": count,
            "mem_kib": mem_kib,
            "rate": 4e6 / mem_kib * count,
            "reference_rate": 1e6 / mem_kib * count,
            "ratio": 4.0,
            "huge_pages": True,
        }
        for count in range(1, counts + 1)
    ]
    return json.dumps({"cpu": cpu, "backend": "native-x", "results": results})


def test_every_number_of_workers_is_a_line_for_either_backend() -> None:
    cpu, backend, results = read(f"{report(1024)}\n{report(16384)}\n")
    lines = series(backend, results)
    assert [line.name for line in lines] == [
        "native-x, 1 worker",
        "native-x, 2 workers",
        "cryptography, 1 worker",
        "cryptography, 2 workers",
    ]
    assert [kib for kib, _ in lines[0].points] == [1024, 16384]
    picture = ET.fromstring(svg(cpu, lines))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}polyline")) == 4
    assert len(picture.findall(f"{space}circle")) == 8
    texts = [text.text for text in picture.iter(f"{space}text")]
    assert "16 MiB" in texts
    assert "main, test" in texts
    assert "A & B" in texts


def test_one_size_and_many_workers_can_be_drawn() -> None:
    _, backend, results = read(report(512, counts=20))
    lines = series(backend, results)
    assert len(lines) == 40
    ET.fromstring(svg("one", lines))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no report"),
        (f"{report(8)}\n{report(8, cpu='C')}", "reports of 2 processors"),
        ("frob", "Expecting value"),
        ("{}", "'cpu'"),
    ],
)
def test_what_is_no_report_is_refused(
    text: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "reports"
    source.write_text(text)
    assert main([str(source), str(tmp_path / "out.svg")]) == 1
    assert problem in capsys.readouterr().err
    assert main([]) == 2


def test_the_plot_in_the_documentation_is_that_of_its_data(tmp_path: Path) -> None:
    made = tmp_path / "out.svg"
    assert main([str(ROOT / "docs/data/mining-rates.jsonl"), str(made)]) == 0
    assert made.read_text() == (ROOT / "docs/mining-rates.svg").read_text()
