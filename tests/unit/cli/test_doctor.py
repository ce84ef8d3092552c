"""The doctor looks at a machine without a node, and at a node that answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from unchained.node.cli import doctor, main
from unchained.node.cli.asker import Asker
from unchained.node.cli.unfinished import remove_unfinished_in
from unchained.node.transport.identity import Identity
from unchained.node.wallet.new_wallet import wallets_to_open
from unchained.storage.lock import DirectoryLock

Usage = namedtuple("Usage", "total used free")


def looked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main.run(["doctor", "--json", *arguments])
    found = json.loads(capsys.readouterr().out)
    return code, {row["name"]: row for row in found}


def test_without_a_node_it_looks_at_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = looked(capsys, "--data-dir", str(tmp_path))
    assert code == 3
    assert "no node of network local is running in" in found["node"]["says"]
    for name in ("node", "synced", "peers", "clock_offset"):
        assert found[name]["verdict"] == doctor.UNKNOWN, found[name]
    assert found["store"]["says"].startswith("none yet")
    for name in ("versions", "clock", "rpc port", "disk", "memory", "huge pages"):
        assert found[name]["verdict"] in (doctor.GOOD, doctor.DOUBTFUL), found[name]


def test_of_a_node_elsewhere_that_is_away_this_machine_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = looked(capsys, "--rpc", "http://127.0.0.1:1")
    assert code == 3
    assert set(found) == {"node", "synced", "peers", "clock_offset"}


def test_a_full_disk_is_bad_and_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 1 << 20))
    code, found = looked(capsys, "--data-dir", str(tmp_path))
    assert code == 1
    assert found["disk"]["verdict"] == doctor.BAD
    assert "make room" in found["disk"]["do"]


def test_a_port_that_another_has_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("UNCHAINED_RPC__LISTEN", f"127.0.0.1:{port}")
        code, found = looked(capsys, "--data-dir", str(tmp_path))
    assert code == 1
    assert "taken by another program" in found["rpc port"]["says"]
    assert "rpc.listen" in found["rpc port"]["do"]


def test_a_store_of_another_network_is_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from unchained.node.consensus.params import REG
    from unchained.storage.open import open_store

    open_store(tmp_path, REG, create=True).close()
    code, found = looked(capsys, "--data-dir", str(tmp_path), "--network", "local")
    assert code == 1
    assert found["store"]["verdict"] == doctor.BAD


def test_key_files_that_are_broken_are_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = looked(capsys, "--data-dir", str(tmp_path))
    assert (code, found["key files"]["verdict"]) == (3, doctor.GOOD)
    assert not (tmp_path / "peer-key").exists(), "looking makes none"
    for name in ("peer-key", "rpc.token", "rpc.tokens"):
        (tmp_path / name).write_text("no key")
        (tmp_path / name).chmod(0o600)
        code, found = looked(capsys, "--data-dir", str(tmp_path))
        assert (code, found[name]["verdict"]) == (1, doctor.BAD)
        assert str(tmp_path / name) in found[name]["says"]
        (tmp_path / name).unlink()
    Identity.load_or_create(tmp_path / "peer-key")
    (tmp_path / "peer-key").chmod(0o644)
    code, found = looked(capsys, "--data-dir", str(tmp_path))
    assert "others can read it" in found["peer-key"]["says"]
    assert (tmp_path / "peer-key").stat().st_mode & 0o777 == 0o644
    (tmp_path / "peer-key").unlink()
    (tmp_path / "peer-key").mkdir()
    code, found = looked(capsys, "--data-dir", str(tmp_path))
    assert (code, found["peer-key"]["verdict"]) == (1, doctor.BAD)


def test_what_another_process_has_is_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = DirectoryLock(tmp_path)
    code, found = looked(capsys, "--data-dir", str(tmp_path))
    lock.release()
    assert code == 3
    for name in ("node", "store", "rpc port", "key files"):
        assert found[name]["verdict"] == doctor.UNKNOWN, found[name]
    assert f"process {os.getpid()} has the data directory" in found["store"]["says"]


def test_a_running_node_is_judged_by_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = {"synced": "ok", "peers": "no peers", "disk": "ok"}
    answers = {
        "node.status": {"height": 7, "checks": checks},
        "node.version": {"unchained": "0.0.1"},
    }
    monkeypatch.setattr(Asker, "call", lambda self, method, **_: answers[method])
    code, found = looked(capsys, "--data-dir", str(tmp_path))
    assert code == 1
    assert found["node"]["verdict"] == found["synced"]["verdict"] == doctor.GOOD
    main.run(["doctor", "--json", "--data-dir", str(tmp_path)])
    rows = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert len(rows) == len(set(rows)), "nothing is looked at twice"
    assert "MiB are free" in found["disk"]["says"]
    assert (found["peers"]["verdict"], found["peers"]["says"]) == (doctor.BAD, "no peers")
    assert "bootstrap" in found["peers"]["do"]
    assert "installed is" in found["versions"]["says"]
    checks["peers"] = "ok: 3"
    assert main.run(["doctor", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok  peers") and line.endswith("3") for line in lines)


def test_what_is_long_fits_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "the chain is behind that of the peers and waits for somebody who looks at the log of it"
    finding = doctor.Finding(
        "clock_offset", doctor.BAD, said, "look at docs/network.md, at the end"
    )
    doctor._print([finding], {})
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    doctor._print([finding], {})
    lines = [re.sub(r"\x1b\[[0-9]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    assert all(len(line) <= 50 for line in lines)
    assert all(line.startswith(" " * 18) for line in lines[1:])


def test_what_a_crash_has_left_of_secrets_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--data-dir", str(tmp_path))
    assert "unfinished files" not in looked(capsys, *place)[1]
    (tmp_path / "wallets").mkdir()
    for name in ("peer-key", "rpc.tokens", "wallets/shop.wallet", "wallets/shop.db", "other"):
        path = tmp_path / name
        path.with_name(f".{path.name}.0123456789abcdef").touch(0o600)
    finding = looked(capsys, *place)[1]["unfinished files"]
    assert finding["verdict"] == doctor.DOUBTFUL
    assert finding["says"].startswith("4 files with secrets that a crash cut short: ")
    remove_unfinished_in(tmp_path)
    assert looked(capsys, *place)[1]["unfinished files"]["says"].startswith("2 files")
    assert wallets_to_open(tmp_path / "wallets") == []
    assert "unfinished files" not in looked(capsys, *place)[1]
    assert (tmp_path / ".other.0123456789abcdef").exists()
