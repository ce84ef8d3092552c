"""The first hour of a newcomer, as the README has it, on terminals of 80 columns."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from tests.framework.processes import LUCK_S, NodeHome, clean_environment
from tests.framework.terminal import TerminalProgram, on_terminal

ROOT = Path(__file__).parents[2]
COLUMNS, ROWS = 80, 40
PASSPHRASE = "correct horse"

pytestmark = pytest.mark.slow


def commands() -> list[str]:
    """Return the commands of the README's first section, as they stand."""
    text = (ROOT / "README.md").read_text()
    section = re.search(r"## First ten minutes\n(.*?)\n## ", text, re.DOTALL)
    assert section is not None
    blocks = re.findall(r"```\n(.*?)```", section[1], re.DOTALL)
    return [line.partition(" # ")[0].strip() for block in blocks for line in block.splitlines()]


@contextmanager
def typed(home: NodeHome, line: str) -> Iterator[TerminalProgram]:
    """Run a line of a shell on a terminal of its own, in the project's folder."""
    env = clean_environment(home.path) | {
        "TERM": "xterm-256color",
        "PATH": os.environ["PATH"],
        "UNCHAINED_NETWORK__LISTEN": "/ip4/127.0.0.1/tcp/0",
    }
    shell = ["/bin/bash", "-c", f'cd "{ROOT}"; {line}']
    with on_terminal(shell, env, ROWS, COLUMNS) as terminal:
        yield terminal


def told(home: NodeHome, line: str, *answers: tuple[str, str]) -> str:
    """Return what a command shows; each answer is typed once its question is shown."""
    with typed(home, line) as terminal:
        at = 0
        for question, answer in answers:
            terminal.wait_text(question, at)
            at = terminal.type(f"{answer}\r")
        assert terminal.wait() == 0, terminal.text
        return terminal.text


def fits(shown: str) -> None:
    assert all(len(line) <= COLUMNS for line in shown.splitlines()), shown


def test_the_first_hour(home: NodeHome) -> None:
    start, *rest, second, peers = commands()
    status, balance, create, listing, send, history, mnemonic, backup = rest
    with typed(home, start) as panel:
        panel.wait_text(r"page +http://127\.0\.0\.1:\d+")
        panel.wait_text(r"ask +\S*unchained-node status")
        panel.wait_text(r"UNC earned   new ones go to wallet mining")

        shown = told(home, status)
        fits(shown)
        assert re.search(r"(?m)^network +local", shown)
        assert re.search(r"(?m)^tip +[0-9a-f]{64}\s*$", shown), shown

        shown = told(home, balance)
        assert "there is no wallet default: this is mining" in shown
        fits(shown)

        deadline = time.monotonic() + LUCK_S
        while spendable(home) < Decimal("1.1"):
            assert time.monotonic() < deadline, "nothing was mined that can be spent"
            time.sleep(1)

        new = (("New passphrase: ", PASSPHRASE), ("(?i)repeat.*: ", PASSPHRASE))
        words = created(home, create, *new)
        assert {"default", "mining"} <= set(told(home, listing).split())

        shown = told(home, send, ("Send it", "y"))
        assert "1.00000000" in shown
        txid = re.search(r"\b[0-9a-f]{64}\b", shown)
        assert txid is not None, shown

        shown = told(home, history)
        fits(shown)
        short = txid[0][:12]
        assert short in shown
        assert txid[0] not in shown
        assert txid[0] in told(home, f".venv/bin/unchained-node transfer get {short}")

        shown = told(home, mnemonic, ("(?i)passphrase.*: ", PASSPHRASE))
        assert all(re.search(rf"\b{word}\b", shown) for word in words)
        told(home, backup)
        assert (home.path / "my.backup").stat().st_mode & 0o777 == 0o600

        with typed(home, second) as joined:
            joined.wait_text("node.started")
            shown = told(home, peers)
            assert "12D3" in shown, shown
            joined.type("\x03")
            assert joined.wait() == 0

        restored(home, words)
        told(home, ".venv/bin/unchained-node stop")
        assert panel.wait() == 0
        assert panel.restored


def spendable(home: NodeHome) -> Decimal:
    done = home.run("wallet", "balance", "-w", "mining", "--json")
    return Decimal(json.loads(done.stdout)["confirmed"])


def created(home: NodeHome, line: str, *answers: tuple[str, str]) -> list[str]:
    """Make a wallet; return its words, as they are read off the grid."""
    with typed(home, line) as terminal:
        for question, answer in answers:
            terminal.wait_text(question)
            terminal.type(f"{answer}\r")
        terminal.wait_text(r"Word \d+: ")
        found = {int(n): word for n, word in re.findall(r"\b(\d+) ([a-z]{3,8})\b", terminal.text)}
        words = [found[number] for number in range(1, 25)]
        fits(terminal.text)
        at = 0
        for _ in range(2):
            asked = terminal.wait_text(r"Word \d+: ", at)
            number = int(asked.split()[1].rstrip(":"))
            at = terminal.type(f"{words[number - 1]}\r")
        assert terminal.wait() == 0, terminal.text
    return words


def restored(home: NodeHome, words: list[str]) -> None:
    """Bring a wallet back from its words, one of them misspelt at first."""
    line = ".venv/bin/unchained-node wallet restore -w again --no-passphrase"
    with typed(home, line) as terminal:
        terminal.wait_text(r"Word 1: ")
        at = terminal.type(f"{' '.join(words[:11])} {words[11]}x\r")
        assert words[11] in terminal.wait_text(r"word 12, [^\n]*nearest is '[a-z]+'", at)
        at = terminal.type(f"12. {' '.join(words[11:])}\r")
        terminal.wait_text(r"has read +all up to height", at)
        assert terminal.wait() == 0, terminal.text
