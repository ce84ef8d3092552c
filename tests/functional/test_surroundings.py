"""A node and its commands in poor surroundings: no home, no input, few letters, no docstrings."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.framework.processes import NodeHome, clean_environment, node_program


def env_of(home: NodeHome, changes: Mapping[str, str | None]) -> dict[str, str]:
    env = {**clean_environment(home.path), **{k: v for k, v in changes.items() if v is not None}}
    return {name: value for name, value in env.items() if changes.get(name, "") is not None}


@pytest.mark.parametrize(
    ("changes", "closed"),
    [
        ({}, "0<&-"),
        ({}, "0<&- 1>&- 2>&-"),
        ({"HOME": None}, ""),
        ({"PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "PYTHONUTF8": "0"}, ""),
        ({"PYTHONOPTIMIZE": "2"}, ""),
    ],
    ids=["no input", "no streams", "no home", "few letters", "no docstrings"],
)
def test_a_node_and_its_commands_run_in_poor_surroundings(
    home: NodeHome, changes: Mapping[str, str | None], closed: str
) -> None:
    env = env_of(home, changes)
    where = ("--network", "reg", "--data-dir", str(home.data_dir()))
    node = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", node_program(), "start", *where],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(home.data_dir() / "rpc.url", node)

        def run(words: Sequence[str]) -> str:
            done = subprocess.run(
                [node_program(), *words, *where],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, "internal error" in done.stderr) == (0, False), done.stderr
            return done.stdout

        assert len(run(("wallet", "create", "--no-passphrase")).split()) == 24
        run(("mine", "generate", "3"))
        assert json.loads(run(("wallet", "balance", "--json")))
        run(("wallet", "address", "--qr", "--label", "\u6c34"))
        assert "height 3" in run(("status",))
        run(("stop",))
        out, _ = node.communicate(timeout=60)
        assert b"internal error" not in out
        assert node.returncode == 0, out
    finally:
        node.kill()
        node.communicate()


def wait_for(file: Path, node: subprocess.Popen[bytes]) -> None:
    """Return once a node has written a file."""
    for _ in range(600):
        if file.exists():
            return
        with pytest.raises(subprocess.TimeoutExpired):
            node.wait(0.1)
    pytest.fail(f"{file} did not come")


def test_words_that_are_no_text_are_one_line(home: NodeHome) -> None:
    where = ("--network", "reg", "--data-dir", str(home.data_dir()))
    home.start("--network", "reg").wait_event("node.started")
    assert home.run("wallet", "create", "--no-passphrase", *where).returncode == 0
    done = home.run("wallet", "address", "--label", "\udcff", *where)
    assert (done.returncode, done.stderr) == (
        2,
        "unchained-node: a word of the command line is not text in UTF-8\n",
    )


def test_a_node_tells_its_service_manager_how_it_stands(home: NodeHome) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(home.path / "notify"))
        manager.settimeout(60)
        env = {"NOTIFY_SOCKET": str(home.path / "notify"), "WATCHDOG_USEC": "500000"}
        node = home.start("--network", "reg", env=env)

        def hear(text: str) -> None:
            while not manager.recv(4096).decode().startswith(text):
                pass

        hear("READY=1\nSTATUS=network reg")
        hear("WATCHDOG=1")
        node.wait_event("node.started")
        assert node.stop() == 0
        hear("STOPPING=1")


def test_files_that_the_system_refuses_are_named(home: NodeHome) -> None:
    where = ("--network", "reg", "--data-dir", str(home.data_dir()))
    node = home.start("--network", "reg")
    node.wait_event("node.started")

    def fails(*words: str) -> str:
        done = home.run(*words, *where)
        assert done.returncode in (1, 2), done.stdout
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert home.run("wallet", "create", "--no-passphrase", *where).returncode == 0
    assert home.run("mine", "generate", "3", *where).returncode == 0
    long = "x" * 300
    below = str(home.data_dir() / "config.toml" / "x")
    (home.data_dir() / "config.toml").write_text("")
    for bad in ("/dev/full", "/none/such", long, below, str(home.path)):
        for words in (
            ("wallet", "address", "--png", bad),
            ("chain", "export", bad),
            ("wallet", "restore", "-w", "other", "--mnemonic-file", bad),
            ("wallet", "sign", bad),
            ("wallet", "broadcast", bad),
            ("transfer", "decode", f"@{bad}"),
        ):
            assert "internal error" not in fails(*words), words
    memo = ("--memo", "\u6c34" * 80, "--label", "\u6c34" * 80)
    done = home.run("wallet", "paycode", "--qr", *memo, *where)
    assert "a QR code holds at most 2953 characters" in done.stderr.splitlines()[-1]
    # What the node itself cannot write is told by the node.
    wallets = home.data_dir() / "wallets"
    wallets.rename(home.data_dir() / "moved")
    wallets.write_text("a file")
    assert f"{wallets}: File exists" in fails("wallet", "create", "-w", "third", "--no-passphrase")
