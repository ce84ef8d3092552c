"""The node built where no compiler works: it installs, and mines with the reference backend."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.framework.processes import LUCK_S, NodeHome

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the project lies, installed from a copy of it with a compiler that fails."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for room in ("miner", "node", "storage"):
        leave = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / room, source / room, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"),
            *("--disable-pip-version-check", "--no-input", "--target", str(target), str(source)),
        ],
        env=os.environ | {"CC": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(target.rglob("*.so"))
    return target


def run(built: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        env=os.environ | {"PYTHONPATH": str(built)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_the_reference_backend_stands_in(built: Path) -> None:
    code = (
        "import unchained.node.crypto.pow as pow, unchained.node.crypto as crypto\n"
        "print(crypto.__path__[0], *pow.available_backends(), pow.default_backend().name)"
    )
    place, *backends = run(built, "-c", code).split()
    assert Path(place).is_relative_to(built)
    assert backends == ["cryptography", "cryptography"]


@pytest.mark.slow
def test_its_proofs_of_work_are_the_same(built: Path) -> None:
    tests = ("tests/unit/crypto/test_pow.py", "tests/property/test_pow_differential.py")
    output = run(built, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *tests)
    assert "the native kernel was not built" in output


@pytest.mark.slow
def test_a_node_mines_and_measures_with_it(home: NodeHome, built: Path) -> None:
    env = {"PYTHONPATH": str(built)}
    node = home.start("--network", "local", "--workers", "1", env=env)
    node.wait_event("coin.found", timeout_s=LUCK_S)
    asked = ("mine", "status", "--json", "--data-dir", str(home.data_dir()))
    status = json.loads(home.run(*asked, env=env).stdout)
    assert status["backend"] == "cryptography"
    assert node.stop() == 0
    bench = ("bench", "pow", "--mem-kib", "64", "--seconds", "0.2", "--workers", "1", "--json")
    done = home.run(*bench, env=env)
    report = json.loads(done.stdout)
    assert report["backend"] == "cryptography"
    assert report["results"][0]["ratio"] == 1


@pytest.mark.slow
def test_its_workers_mine(built: Path) -> None:
    output = run(
        built, "-m", "pytest", "-p", "no:cacheprovider", "tests/functional/test_pool_workers.py"
    )
    assert "failed" not in output
