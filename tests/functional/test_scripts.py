"""The scripts as people call them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path
    for path in (ROOT / "scripts").iterdir()
    if path.name == "environment" or path.read_bytes().startswith(b"#!/usr/bin/env bash")
)


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_every_script_is_sound_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert (script.stat().st_mode & 0o111 != 0) is (script.name != "environment")


def copy_of_project(tmp_path: Path, *tools_wanted: str, script: str = "start") -> Path:
    """Make a project with little more than one script; return the folder of all tools of a
    machine."""
    (tmp_path / "scripts").mkdir()
    for name in (script, "environment"):
        (tmp_path / "scripts" / name).write_bytes((ROOT / "scripts" / name).read_bytes())
        (tmp_path / "scripts" / name).chmod(0o755)
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).touch()
    (tmp_path / "requirements-dev.lock").touch()
    (tmp_path / "node/crypto/native").mkdir(parents=True)
    (tmp_path / "node/crypto/native/argon2.c").touch()
    tools = tmp_path / "bin"
    tools.mkdir()
    usual = ("bash", "dirname", "cat", "cut", "sha256sum", "flock", "tail", "id", "grep")
    for name in (*usual, *tools_wanted):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True)
        (tools / name).symlink_to(found.stdout.strip())
    return tools


def is_command_of_python(script: Path) -> bool:
    """Return whether a script hands all of its words to Python, which answers --help."""
    found = re.search(r'^run_module tests\..* "\$@"\n\Z', script.read_text(), re.MULTILINE)
    return found is not None


ANSWERED_BY_THE_SHELL = [
    script
    for script in SCRIPTS
    if script.name not in ("environment", "start") and not is_command_of_python(script)
]


@pytest.mark.parametrize("script", ANSWERED_BY_THE_SHELL, ids=lambda path: path.name)
@pytest.mark.parametrize("words", [("--help",), ("-h",), ("native", "--help")], ids=" ".join)
def test_help_is_answered_before_anything_is_installed(
    script: Path, words: tuple[str, ...], tmp_path: Path
) -> None:
    tools = copy_of_project(tmp_path, "sed", "basename", script=script.name)
    done = subprocess.run(
        [str(tools / "bash"), str(tmp_path / "scripts" / script.name), *words],
        env={"PATH": str(tools), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"scripts/{script.name}" in done.stdout
    assert "set -eu" not in done.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("name", ["check", "lock", "sanitize", "screenshots"])
def test_a_word_that_a_script_does_not_know_is_bad_usage(name: str, tmp_path: Path) -> None:
    tools = copy_of_project(tmp_path, script=name)
    done = subprocess.run(
        [str(tools / "bash"), str(tmp_path / "scripts" / name), "nothing"],
        env={"PATH": str(tools), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"unchained: usage: scripts/{name}")
    assert not (tmp_path / ".venv").exists()


def test_without_a_python_that_is_recent_enough_there_is_one_clear_line(tmp_path: Path) -> None:
    tools = copy_of_project(tmp_path)
    old = tools / "python3"
    old.write_text('#!/usr/bin/env bash\n[ "$1" = --version ] && echo Python 3.9.2\n')
    old.chmod(0o755)
    done = subprocess.run(
        [str(tools / "bash"), str(tmp_path / "scripts/start")],
        env={"PATH": str(tools), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "unchained: Python 3.11 or later is needed; found Python 3.9.2\n"
    assert not (tmp_path / ".venv").exists()


def test_without_a_package_index_the_last_line_says_so(tmp_path: Path) -> None:
    tools = copy_of_project(tmp_path)
    (tmp_path / "requirements.lock").write_text(f"nothing==1 --hash=sha256:{'0' * 64}\n")
    # An environment whose pip nobody answers: the port of `discard` takes no connections.
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / ".venv")], check=True)
    done = subprocess.run(
        [str(tools / "bash"), str(tmp_path / "scripts/start")],
        env={
            "PATH": str(tools),
            "HOME": str(tmp_path),
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
            "PIP_RETRIES": "0",
            "PIP_TIMEOUT": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert "the package index" in last
    assert "PIP_INDEX_URL" in last
    assert "apt" not in done.stderr
