"""`unchained-node start` as a person runs it: it mines, stops, survives, and says what is wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess

import psutil
import pytest

from tests.framework.processes import NodeHome, NodeProcess
from unchained.node.consensus.params import LOCAL
from unchained.node.mining.payout import MINING_WALLET
from unchained.node.wallet.keystore import Keystore
from unchained.storage.lock import DirectoryLock

SEED = 3
KILLS = 6


def start(home: NodeHome, *arguments: str) -> NodeProcess:
    return home.start("--no-rpc", "--workers", "1", *arguments)


def check(home: NodeHome) -> dict[str, object]:
    done = home.run("db", "check", "--json", "--data-dir", str(home.data_dir()))
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_mines_an_anchor_and_stops_when_asked(home: NodeHome, number: int) -> None:
    node = start(home)
    connected = node.wait_event("anchor.connected")
    assert connected["height"] == 1
    workers = psutil.Process(node.pid).children(recursive=True)
    assert len(workers) == 1
    assert node.stop(number) == 0
    assert node.errors == []
    assert not any(worker.is_running() for worker in workers)
    assert node.events[-1]["event"] == "node.stopped"
    assert check(home)["sound"]


def test_it_goes_on_where_it_was_killed(home: NodeHome) -> None:
    randomness = random.Random(SEED)
    acknowledged = 0
    for _ in range(KILLS):
        node = start(home)
        opened = node.wait_event("chain.opened")
        # What was logged as connected is on disk.
        assert opened["height"] >= acknowledged
        # Around a coin's way into the chain: what the node is about to write is cut off.
        node.wait_events(randomness.randint(1, 4), "coin.found")
        workers = psutil.Process(node.pid).children(recursive=True)
        node.kill()
        psutil.wait_procs(workers, timeout=10)
        assert not any(worker.is_running() for worker in workers), "a worker outlived its node"
        heights = [e["height"] for e in node.events if e["event"] == "anchor.connected"]
        acknowledged = max([acknowledged, *heights])
    assert check(home)["sound"]


def test_it_mines_to_a_wallet_of_its_own_that_is_secret(home: NodeHome) -> None:
    node = start(home)
    assert node.wait_event("mining.payout")["pays"] == MINING_WALLET
    node.wait_event("coin.found")
    path = home.data_dir() / "wallets" / f"{MINING_WALLET}.wallet"
    assert path.stat().st_mode & 0o777 == 0o600
    assert home.data_dir().stat().st_mode & 0o777 == 0o700
    assert node.stop() == 0
    mnemonic = Keystore.load(path, LOCAL).unlock("").mnemonic()
    assert len(mnemonic.split()) == 24
    assert all(mnemonic not in json.dumps(event) for event in node.events)
    assert mnemonic not in (home.data_dir() / "node.log").read_text()


def refused(home: NodeHome, *arguments: str) -> tuple[int, str]:
    """Run a node that must not start; return its exit code and its one line."""
    done = home.run("start", "--json", "--no-rpc", "--data-dir", str(home.data_dir()), *arguments)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--workers", "0"], 2, ["--workers", "0", "1"]),
        (["--workers", "many"], 2, ["--workers", "many"]),
        (["--network", "moon"], 2, ["--network", "moon"]),
        (["--payout", "lunc1nonsense"], 1, ["payout", "lunc1nonsense"]),
        (
            ["--payout", "unc1qzkefnjpnjrkxpchsxt6prtum3vse36fhagfvghp5erzepa9z0zkx6j94kp"],
            1,
            ["payout", "main", "local"],
        ),
        (["--set", "mining.wrokers=2"], 2, ["mining.wrokers", "mining.workers"]),
        (["--frobnicate"], 2, ["--frobnicate"]),
    ],
)
def test_wrong_use_is_one_line(
    home: NodeHome, arguments: list[str], code: int, says: list[str]
) -> None:
    found, line = refused(home, *arguments)
    assert found == code, line
    assert all(word in line for word in says), line


def test_a_second_start_says_at_once_what_runs_and_what_to_type(home: NodeHome) -> None:
    node = home.start("--no-mine")
    node.wait_event("node.started")
    code, line = refused(home)
    assert code == 1
    directory = home.data_dir()
    assert f"a node runs in {directory} already, its page is at http://127.0.0.1:" in line
    assert f"status --data-dir {directory}` shows it" in line
    assert f"stop --data-dir {directory}` stops it" in line
    # It has written nothing to the other's log.
    assert "node.stopped" not in (directory / "node.log").read_text()
    assert node.stop() == 0


def test_a_store_that_another_command_has_is_one_line(home: NodeHome) -> None:
    directory = home.data_dir()
    directory.mkdir(parents=True)
    lock = DirectoryLock(directory)
    code, line = refused(home)
    lock.release()
    assert code == 1
    assert f"{directory} is in use by process {os.getpid()}" in line
    assert not (directory / "node.log").exists()


def test_a_store_of_another_network_is_one_line(home: NodeHome) -> None:
    node = start(home, "--no-mine")
    node.wait_event("node.started")
    assert node.stop() == 0
    code, line = refused(home, "--network", "reg")
    assert code == 1
    assert "holds the chain of local" in line
    assert "expected reg" in line


def test_a_directory_of_another_network_is_named_before_the_wallet_in_it(home: NodeHome) -> None:
    node = start(home)
    node.wait_event("node.started")
    assert node.stop() == 0
    assert list((home.data_dir() / "wallets").glob("*.wallet"))
    for more in ((), ("--no-mine",)):
        code, line = refused(home, "--network", "main", *more)
        assert code == 1
        assert "holds the chain of local" in line
        assert "expected main" in line
    # Without a chain it is the wallet that does not fit.
    assert (
        home.run(
            "db", "reset", "--yes", "--network", "local", "--data-dir", str(home.data_dir())
        ).returncode
        == 0
    )
    code, line = refused(home, "--network", "main")
    assert code == 1
    assert ".wallet is for network local, expected main" in line


def test_a_damaged_wallet_that_it_would_mine_to_is_one_line(home: NodeHome) -> None:
    path = home.data_dir() / "wallets" / "default.wallet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing of the kind")
    code, line = refused(home)
    assert code == 1
    assert "default.wallet is no wallet file" in line


def test_a_data_directory_that_is_a_file_is_one_line(home: NodeHome) -> None:
    home.data_dir().write_text("not a directory")
    code, line = refused(home)
    assert code == 2
    assert str(home.data_dir()) in line


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_directory_that_cannot_be_written_is_one_line(home: NodeHome) -> None:
    home.data_dir().mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(home.data_dir())], check=True
    )
    try:
        code, line = refused(home)
        assert code == 2
        assert "cannot be written: Read-only file system" in line
    finally:
        subprocess.run(["umount", str(home.data_dir())], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_full_disk_stops_the_node_and_loses_nothing(home: NodeHome) -> None:
    home.data_dir().mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(home.data_dir())], check=True
    )
    try:
        node = start(home)
        node.wait_event("anchor.connected")
        filler = home.data_dir() / "filler"
        with filler.open("wb") as file:
            _fill(file.fileno())
        assert node.wait() == 1
        assert len(node.errors) == 1
        assert "No space left on device" in node.errors[0] or "full" in node.errors[0]
        heights = [e["height"] for e in node.events if e["event"] == "anchor.connected"]
        filler.unlink()
        again = start(home, "--no-mine")
        assert again.wait_event("chain.opened")["height"] >= max(heights)
        assert again.stop() == 0
        assert check(home)["sound"]
        for process in home.processes:
            process.end()
    finally:
        subprocess.run(["umount", "-l", str(home.data_dir())], check=True)


def _fill(descriptor: int) -> None:
    """Write until the file system is full."""
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:
        return


def test_damaged_files_are_reported_and_kept(home: NodeHome) -> None:
    node = start(home)
    node.wait_event("anchor.connected")
    assert node.stop() == 0
    current = home.data_dir() / "chain" / "CURRENT"
    current.write_text("MANIFEST-999999\n")
    code, line = refused(home)
    assert code == 1
    assert "db check --repair" in line
    repaired = home.run("db", "check", "--repair", "--data-dir", str(home.data_dir()))
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    again = start(home, "--no-mine")
    assert again.wait_event("chain.opened")["height"] >= 1
    assert again.stop() == 0


def test_the_chain_can_be_removed_and_nothing_else(home: NodeHome) -> None:
    node = start(home)
    node.wait_event("anchor.connected")
    directory = str(home.data_dir())
    busy = home.run("db", "reset", "--yes", "--data-dir", directory)
    assert busy.returncode == 1
    assert "in use by process" in busy.stderr
    assert node.stop() == 0
    before = {path.name for path in home.data_dir().iterdir()}
    unasked = home.run("db", "reset", "--data-dir", directory)
    assert unasked.returncode != 0
    assert (home.data_dir() / "chain").is_dir()
    done = home.run("db", "reset", "--yes", "--data-dir", directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in home.data_dir().iterdir()} == before - {"chain"}
    again = start(home, "--no-mine")
    assert again.wait_event("chain.opened")["height"] == 0
    assert again.stop() == 0


def test_it_sends_others_the_address_that_it_was_given(home: NodeHome) -> None:
    address = "/ip4/203.0.113.9/tcp/4001"
    node = start(
        home, "--network", "reg", "--listen", "/ip4/127.0.0.1/tcp/0", "--announce", address
    )
    said = node.wait_event("net.listening")
    assert said["addresses"] == [f"{address}/p2p/{said['peer']}"]
    assert node.stop() == 0
