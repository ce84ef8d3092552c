"""The command line against a real node, and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.framework.forge import Forge, spend_key
from tests.framework.processes import NodeHome, clean_environment, node_home, node_program
from unchained.node.cli.status import literal
from unchained.node.cli.tables import duration, moment, shown
from unchained.node.consensus.params import NETWORKS, REG
from unchained.node.crypto.accounts import derive_account, mnemonic_seed
from unchained.node.crypto.addresses import decode_paycode, encode_address

ADDRESS = encode_address(REG, spend_key(1).key_hash)


class Shell:
    """Runs commands for the node of one data directory."""

    def __init__(self, home: NodeHome) -> None:
        self.home = home
        self.where = ("--network", "reg", "--data-dir", str(home.data_dir()))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.home.run(*arguments, *self.where)

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        return json.loads(done.stdout)

    def fails(self, *arguments: str, code: int = 1) -> str:
        done = self.run(*arguments)
        assert done.returncode == code
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("unchained-node: ")
        return done.stderr


@pytest.fixture(scope="module")
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    with node_home(request) as home:
        node = home.start("--network", "reg")
        node.wait_event("node.started")
        made = Shell(home)
        made.json("mine", "generate", "3", "--coins", "2", "--address", ADDRESS)
        yield made
        assert made.json("stop") == {"stopped": True}
        assert node.wait() == 0


def test_status_for_people_and_programs(shell: Shell) -> None:
    status = shell.json("status")
    assert status["height"] >= 3
    lines = dict(line.split(" ", 1) for line in shell.run("status").stdout.splitlines())
    assert lines["network"] == "reg"
    assert lines["supply"] == status["supply"]
    assert lines["ready"] == "yes"


def test_the_chain_by_height_and_id(shell: Shell) -> None:
    tip = shell.json("chain", "tip")
    by_height = shell.json("chain", "anchor", str(tip["height"]))
    assert shell.json("chain", "anchor", tip["id"])["header"] == by_height["header"]
    assert shell.json("chain", "header", tip["id"])["height"] == tip["height"]
    assert shell.json("chain", "raw", tip["id"])["body"]
    assert shell.json("chain", "forks")[0]["id"] == tip["id"]
    assert shell.json("chain", "params")["network"] == "reg"
    assert shell.json("chain", "supply", "1")["height"] == 1
    table = shell.run("chain", "difficulty-history", "--last", "3").stdout.splitlines()
    assert table[0].split("\t") == ["height", "time", "n_total", "fees", "work", "target"]
    assert [line.split("\t")[0] for line in table[1:]] == ["1", "2", "3"]


def test_coins_and_transfers(shell: Shell, tmp_path: Path) -> None:
    coin = shell.json("coin", "owned-by", ADDRESS, "--limit", "1")["coins"][0]
    more = shell.run("coin", "owned-by", ADDRESS, "--limit", "1")
    assert more.stderr == f"more: --after {coin['id']}\n"
    assert shell.json("coin", "get", coin["id"])["status"] == "unspent"
    file = tmp_path / "proof"
    # What the tip itself includes cannot be proven before the next anchor.
    shell.json("mine", "generate")
    proof = shell.json("coin", "proof", coin["id"], "--output", str(file))
    assert (proof["status"], proof["file"]) == ("unspent", str(file))
    verdict = shell.home.run("verify-proof", str(file), "--network", "reg")
    assert verdict.returncode == 0
    assert verdict.stdout.startswith(f"The proof holds: coin {coin['id']} of {coin['amount']} UNC,")
    assert f"rests on anchor {proof['tip']}" in verdict.stdout
    # whoever means another network is not told that it holds
    other = shell.home.run("verify-proof", str(file))
    assert (other.returncode, other.stdout) == (1, "")
    assert "is of the network reg, expected local; `--network reg` if" in other.stderr
    facts = json.loads(
        shell.home.run("verify-proof", str(file), "--network", "reg", "--json").stdout
    )
    assert (facts["coin_id"], facts["spent"]) == (coin["id"], False)
    raw = bytearray(file.read_bytes())
    raw[-40] ^= 1
    file.write_bytes(raw)
    false = shell.home.run("verify-proof", str(file), "--network", "reg")
    assert (false.returncode, false.stdout) == (1, "")
    assert "the proof does not hold" in false.stderr
    for none in (b"", b"UNCHAINED-PROOF\x02", bytes(raw[:-1])):
        file.write_bytes(none)
        assert shell.home.run("verify-proof", str(file), "--network", "reg").returncode == 2
    missing = shell.home.run("verify-proof", str(tmp_path / "nowhere"))
    assert missing.returncode == 2
    assert "nowhere: No such file" in missing.stderr
    assert len(bytes.fromhex(shell.run("coin", "raw", coin["id"]).stdout)) == 198
    assert "included" in shell.run("coin", "history", coin["id"]).stdout

    transfer = Forge().transfer([(bytes.fromhex(coin["id"]), 1)], [(10**8 - 20_000, 2)], fee=20_000)
    as_bytes, as_hex = tmp_path / "t.bin", tmp_path / "t.hex"
    as_bytes.write_bytes(transfer.raw)
    as_hex.write_text(transfer.raw.hex() + "\n")
    txid = transfer.txid.hex()
    for argument in (transfer.raw.hex(), f"@{as_bytes}", f"@{as_hex}"):
        assert shell.json("transfer", "decode", argument)["txid"] == txid
        assert shell.json("transfer", "test", argument)["accepted"]
    assert "@/none" not in shell.fails("transfer", "decode", "@/none/such")
    assert shell.json("transfer", "submit", f"@{as_hex}")["accepted"]
    assert shell.json("mempool", "info")["transfers"] == 1
    assert shell.json("mempool", "list")[0]["txid"] == txid
    assert shell.json("mempool", "entry", txid)["fee"] == "0.00020000"
    assert shell.json("mempool", "fee-estimate", "3")["fee_rate"] == 1
    shell.json("mine", "generate")
    assert shell.json("transfer", "get", txid)["status"] == "included"
    assert shell.run("transfer", "raw", txid).stdout == f"{transfer.raw.hex()}\n"
    again = shell.run("transfer", "test", "00")
    assert again.returncode == 1
    assert "NON_CANONICAL" in again.stdout


def test_the_miner(shell: Shell) -> None:
    assert shell.json("mine", "status")["status"] == "off"
    assert "mines on demand" in shell.fails("mine", "start")
    assert "mines on demand" in shell.fails("mine", "stop")
    assert "mines on demand" in shell.fails("mine", "set-workers", "2")
    assert shell.json("mine", "template", "--address", ADDRESS)["mem_kib"] == 8
    assert shell.json("mine", "benchmark", "--seconds", "0.1")["hashes"] > 0
    assert "the version of a coin" in shell.fails("mine", "submit", "00" * 198)


def test_any_method_can_be_called(shell: Shell) -> None:
    assert shell.json("rpc", "chain.supply", "height=1")["height"] == 1
    assert shell.json("rpc", "chain.supply", "1")["height"] == 1
    assert shell.json("rpc", "chain.supply") == shell.json("chain", "supply")
    assert 'did you mean "chain.supply"' in shell.fails("rpc", "chain.suply")
    assert "has no parameter" in shell.fails("rpc", "chain.tip", "x=1")
    assert "all by position" in shell.fails("rpc", "chain.tip", "x=1", "2", code=2)


def test_looking_into_the_node(shell: Shell) -> None:
    assert shell.json("node", "version")["unchained"]
    assert any(row["key"] == "rpc.listen" for row in shell.json("node", "config"))
    assert shell.json("node", "log-level", "warning") == "warning"
    assert shell.run("node", "log-level", "info").stdout == "info\n"
    assert "chain.writer" in shell.run("node", "tasks").stdout
    assert "chain" in shell.json("node", "statistics")
    assert shell.json("node", "memory")["threads"] >= 1


def test_errors_say_what_to_do(shell: Shell) -> None:
    assert "64 hex digits, or the first four" in shell.fails("coin", "get", "xyz")
    assert "is known" in shell.fails("chain", "anchor", "00" * 32)
    url = (shell.home.data_dir() / "rpc.url").read_text()
    assert shell.json("chain", "tip", "--rpc", url)["height"] >= 3
    assert "a node's URL looks like" in shell.fails("chain", "tip", "--rpc", "nonsense", code=2)
    assert "holds no credentials" in shell.fails(
        "chain", "tip", "--rpc", "http://a:b@127.0.0.1:1", code=2
    )
    cookie = shell.home.data_dir() / "rpc.cookie"
    right = cookie.read_text()
    cookie.write_text("__cookie__:" + "0" * 64)
    assert "is this the data directory of the node" in shell.fails("chain", "tip", "--rpc", url)
    cookie.write_text(right)


def test_without_a_node(home: NodeHome) -> None:
    shell = Shell(home)
    where = f"--network reg --data-dir {home.data_dir()}"
    # as it was called, unless a shell finds it by its name
    typed = "unchained-node" if shutil.which("unchained-node") else node_program()
    for command in (["status"], ["stop"], ["chain", "tip"], ["rpc", "chain.tip"]):
        assert shell.fails(*command) == (
            f"unchained-node: no node of network reg is running in {home.data_dir()}: "
            f"start it with `{typed} start {where}`\n"
        )
    assert f"start it with `{typed} start`\n" in home.run("status").stderr
    assert "there is no such directory" in shell.fails("chain", "export", str(home.path / "x"))


def test_a_chain_file_goes_round(shell: Shell) -> None:
    first = shell.home.path / "first.chain"
    tip = shell.json("chain", "tip")
    assert shell.json("chain", "export", str(first))["height"] == tip["height"]
    assert "--force replaces it" in shell.fails("chain", "export", str(first))
    assert "no such directory" in shell.fails("chain", "export", "/none/such/file")
    verified = shell.home.run("chain", "verify", str(first), "--json")
    assert json.loads(verified.stdout) == {
        "network": "reg",
        "anchors": tip["height"],
        "height": tip["height"],
        "tip": tip["id"],
        "supply": tip["supply"],
        "pool": tip["pool"],
    }
    other = ("--network", "reg", "--data-dir", str(shell.home.data_dir("other")))
    for _ in range(2):
        imported = shell.home.run("chain", "import", str(first), *other, "--json")
        assert json.loads(imported.stdout) == json.loads(verified.stdout)
    second = shell.home.path / "second.chain"
    # one whose writer is gone, and one whose writer is not
    left, written = (second.with_name(f".second.chain.{pid}.unfinished") for pid in (10**8, 1))
    left.touch()
    written.touch()
    assert shell.home.run("chain", "export", str(second), *other).returncode == 0
    assert second.read_bytes() == first.read_bytes()
    assert (left.exists(), written.exists()) == (False, True)
    assert "in use by process" in shell.fails("chain", "import", str(first))
    wrong = shell.home.run("chain", "import", str(first), "--network", "local")
    assert (wrong.returncode, "run it with --network reg" in wrong.stderr) == (1, True)


def test_a_chain_file_that_is_none_or_damaged(shell: Shell) -> None:
    good = shell.home.path / "good.chain"
    shell.json("chain", "export", str(good))
    content = good.read_bytes()
    bad = shell.home.path / "bad.chain"
    for damaged, problem in [
        (b"", "is no chain file"),
        (b"hello" * 20, "is no chain file"),
        (content[:17] + b"\x01\x02\x03\x04", "of an unknown chain, 0x1020304"),
        (content[:-1], "EXPORT_BAD_FRAME"),
        (content[:-40] + bytes(40), "record of height"),
    ]:
        bad.write_bytes(damaged)
        done = shell.home.run("chain", "verify", str(bad))
        assert done.returncode == 1
        assert problem in done.stderr.splitlines()[-1]
    assert "No such file" in shell.home.run("chain", "verify", "/none/such").stderr


def test_a_new_key_is_printed_and_kept_nowhere(home: NodeHome) -> None:
    done = home.run("key", "new", "--network", "test", "--json")
    key = json.loads(done.stdout)
    network = NETWORKS["test"]
    account = derive_account(mnemonic_seed(key["mnemonic"]), network.chain_id, 0)
    assert key["address"] == encode_address(network, account.key_hash)
    assert decode_paycode(network, key["paycode"]).key_hash == account.key_hash
    assert "not stored anywhere" in home.run("key", "new").stderr
    assert list(home.path.iterdir()) == []


def on_terminal(home: NodeHome, *arguments: str, until: str, ctrl_c: bool = False) -> str:
    """Run a command on a terminal of its own; return what it shows up to a text."""
    ours, theirs = pty.openpty()
    env = clean_environment(home.path) | {"TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        [node_program(), *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    shown = ""
    deadline = time.monotonic() + 60

    def read() -> str:
        """Return what is shown next, nothing once the command has closed the terminal."""
        while not select.select([ours], [], [], 1)[0]:
            assert time.monotonic() < deadline, shown
        try:
            return os.read(ours, 65536).decode(errors="replace")
        except OSError:
            return ""

    try:
        while until not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown):
            more = read()
            assert more, f"ended without {until!r}: {shown}"
            shown += more
        if ctrl_c:
            process.send_signal(signal.SIGINT)
        while more := read():
            shown += more
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == (1 if ctrl_c else 0)
    return shown


def test_ids_may_be_given_by_their_first_digits(shell: Shell) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = shell.home.run(*words, *shell.where)
        return done.returncode, done.stdout + done.stderr

    tip = json.loads(run("chain", "tip", "--json")[1])["id"]
    code, said = run("chain", "anchor", f"{tip[:11]}", "--json")
    # Digits alone are a height.
    assert code == 0 or tip[:11].isdigit()
    assert tip[:11].isdigit() or json.loads(said)["header"]["id"] == tip
    code, said = run("chain", "header", "0123456789")
    assert (code, said) == (
        1,
        "unchained-node: nothing is known whose id begins with 0123456789\n",
    )


def test_a_terminal_waits_while_a_wallet_reads_the_chain(shell: Shell) -> None:
    wallet = ("-w", "reader")
    made = shell.home.run("wallet", "create", *wallet, "--no-passphrase", *shell.where)
    assert made.returncode == 0, made.stderr
    shown = on_terminal(shell.home, "wallet", "rescan", *wallet, *shell.where, until="has read")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "reading the chain for reader" in plain
    assert re.search(r"has read +all up to height", plain)


def test_a_terminal_gets_colours_and_tables(shell: Shell) -> None:
    shown = on_terminal(shell.home, "status", *shell.where, until="not mining")
    assert "\x1b[32mready, up" in shown
    shown = on_terminal(shell.home, "chain", "forks", *shell.where, until="main")
    assert "fork height" in shown
    shown = on_terminal(shell.home, "mempool", "list", *shell.where, until="nothing waits")
    shown = on_terminal(
        shell.home, "status", "--watch", *shell.where, until="not mining", ctrl_c=True
    )
    assert "Traceback" not in shown


def test_words_of_the_command_line_as_json() -> None:
    for text, value in [
        ("3", 3),
        ("-3", -3),
        ("true", True),
        ("null", None),
        ('["a"]', ["a"]),
        ('{"a": 1}', {"a": 1}),
        ('"3"', "3"),
        ("{broken", "{broken"),
        ("1.5", "1.5"),
        ("9" * 64, "9" * 64),
        ("abc", "abc"),
        ("", ""),
    ]:
        assert literal(text) == value


def test_values_are_shown_for_people() -> None:
    assert duration(10) == "10 ms"
    assert duration(90_061_000) == "1 d 1 h"
    assert duration(60_000) == "1 min 0 s"
    assert moment(1_795_219_200_000) == "2026-11-21 00:00:00Z"
    assert moment(2**63) == f"{2**63} ms"
    assert shown("tip_time", 0) == "1970-01-01 00:00:00Z"
    assert shown("x", None) == "-"
    assert shown("x", [1, "a"]) == "1, a"
    assert shown("x", "evil\x1b[31m") == "evil?[31m"


def test_asking_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys; from unchained.node.cli import main; main.run(['version']);"
        "print([m for m in ('trio', 'numpy', 'libp2p', 'structlog', 'plyvel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
