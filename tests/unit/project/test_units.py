"""The units of systemd in `packaging/` are such as it takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "packaging").glob("*.service"))
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
EXPOSURE_MAX = 3.0
"""Of `systemd-analyze security`, from 0 to 10: what is well below "medium"."""

needs_systemd = pytest.mark.skipif(
    SYSTEMD_ANALYZE is None,
    reason="the units of systemd were not checked: there is no systemd-analyze (apt: systemd)",
)


def runnable(unit: Path, folder: Path) -> Path:
    """Return a copy of a unit whose program is one that this machine has."""
    text, count = re.subn(
        r"^ExecStart=/opt/\S+", f"ExecStart={sys.executable}", unit.read_text(), flags=re.MULTILINE
    )
    assert count == 1
    made = folder / unit.name
    made.write_text(text)
    return made


def test_there_are_units_for_a_node_and_for_a_miner() -> None:
    assert [unit.stem for unit in UNITS] == ["unchained-miner", "unchained-node"]
    for unit in UNITS:
        assert "Type=notify\n" in unit.read_text()
        assert "WatchdogSec=" in unit.read_text()


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SYSTEMD_ANALYZE), "verify", "--man=no", str(runnable(unit, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    # What this machine's own units have to complain of is none of ours.
    ours = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert ours == []
    assert done.returncode == 0 or not ours


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_little_is_left_open(unit: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SYSTEMD_ANALYZE), "security", "--offline=yes", str(runnable(unit, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= EXPOSURE_MAX
