"""A data directory of version 0.1: its chain is refused, and its wallets go on."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.framework.processes import NodeHome, node_home
from tests.framework.vectors import VECTORS

ADDRESS = "runc1qrcmp04qglew4gsawnjcy86nxd2pn9aaj98k9md0upfncsemlr7d6wtj82k"
"""Of the wallet."""


@pytest.fixture
def home() -> Iterator[NodeHome]:
    """A node's home as 0.1.0 left it: a reg chain of 8 anchors, a wallet `kept` that mined them."""
    with node_home() as made:
        with tarfile.open(VECTORS / "data-0.1.tar.xz") as packed:
            packed.extractall(made.path, filter="data")
        yield made


def ask(home: NodeHome, *arguments: str) -> Any:
    done = home.run(*arguments, "--json", "--network", "reg", "--data-dir", str(home.data_dir()))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_refusal_names_the_one_command_that_keeps_wallets(home: NodeHome) -> None:
    where = ("--network", "reg", "--data-dir", str(home.data_dir()))
    for command in (("start",), ("db", "check"), ("db", "stats")):
        refused = home.run(*command, *where)
        assert refused.returncode == 1
        line = refused.stderr.splitlines()[-1]
        assert "earlier rules" in line
        said = r"`\S*unchained-node db reset[^`]*`"
        assert re.search(f"start anew with {said}, which keeps wallets", line)
        assert "Traceback" not in refused.stderr
    assert (home.data_dir() / "chain").is_dir()


def test_wallets_go_on_with_the_new_chain(home: NodeHome) -> None:
    assert ask(home, "db", "reset", "--yes")["freed"] > 0
    node = home.start("--network", "reg")
    assert node.wait_event("chain.opened")["height"] == 0
    node.wait_event("node.started")
    assert "kept" in [wallet["wallet"] for wallet in ask(home, "wallet", "list")]
    assert ask(home, "wallet", "balance", "-w", "kept")["total"] == "0.00000000"
    ask(home, "mine", "generate", "2", "--coins", "2", "--address", ADDRESS)
    assert ask(home, "wallet", "balance", "-w", "kept")["total"] == "6.00000000"
    assert node.stop() == 0


def test_a_receipt_of_the_old_chain_is_refused_in_one_line(home: NodeHome) -> None:
    done = home.run("verify-receipt", str(home.path / "receipt"), "--network", "reg")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "version 1, of a chain of earlier rules that is no more" in done.stderr
