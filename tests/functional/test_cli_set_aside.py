"""Setting anchors aside and taking them back: by a running node, and in a store that none has open;
and what that and `db reset` leave for a wallet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.framework.forge import spend_key
from tests.framework.processes import NodeHome, node_home
from tests.functional.test_cli_node import Shell
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import encode_address

ADDRESS = encode_address(REG, spend_key(1).key_hash)


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[NodeHome]:
    with node_home(request) as made:
        yield made


def test_an_anchor_is_set_aside_and_taken_back_with_a_node_and_without(home: NodeHome) -> None:
    shell = Shell(home)
    node = home.start("--network", "reg")
    node.wait_event("node.started")
    shell.json("mine", "generate", "5", "--coins", "2", "--address", ADDRESS)
    top = shell.json("chain", "tip")
    below = shell.json("chain", "anchor", "3")["header"]["id"]
    third = shell.json("chain", "anchor", "4")["header"]["id"]

    # By height, of a running node.
    done = shell.json("chain", "set-aside", "4")
    assert (done["id"], done["set_aside"], done["changed"]) == (third, True, True)
    assert (done["tip"], done["height"]) == (below, 3)
    assert shell.json("chain", "tip")["id"] == below
    assert shell.json("chain", "anchor", third)["status"] == "set-aside"
    assert not shell.json("chain", "set-aside", third)["changed"]
    assert "no anchor at height 4" in shell.fails("chain", "set-aside", "4")
    # By the method itself.
    back = shell.json("rpc", "chain.take_back", f"anchor={third}")
    assert (back["set_aside"], back["changed"], back["tip"]) == (False, True, top["id"])
    assert not shell.json("rpc", "chain.take_back", f"anchor={third}")["changed"]
    for which in (
        f"anchor={'00' * 32}",
        f"anchor={shell.json('chain', 'anchor', '0')['header']['id']}",
    ):
        for method in ("chain.set_aside", "chain.take_back"):
            assert "above" in shell.fails("rpc", method, which)
    assert "64 hex digits, or the first four" in shell.fails("chain", "set-aside", "none")
    # It stays so across a restart, and is taken back in a store that nobody has open.
    shell.json("chain", "set-aside", third)
    shell.json("stop")
    assert node.wait() == 0
    back = shell.json("chain", "take-back", third)
    assert back == {
        "id": third,
        "set_aside": False,
        "changed": True,
        "tip": top["id"],
        "height": top["height"],
    }
    done = shell.json("chain", "set-aside", "5")
    assert (done["id"], done["tip"], done["height"]) == (top["id"], third, 4)
    assert not shell.json("chain", "set-aside", top["id"])["changed"]
    assert "no anchor at height 5" in shell.fails("chain", "set-aside", "5")
    assert "not an anchor" in shell.fails("chain", "set-aside", "none")
    assert "above" in shell.fails("chain", "set-aside", "0")
    assert "above" in shell.fails("chain", "take-back", "00" * 32)

    node = home.start("--network", "reg")
    node.wait_event("node.started")
    assert shell.json("chain", "tip")["id"] == third
    assert shell.json("chain", "take-back", top["id"])["tip"] == top["id"]
    shell.json("mine", "generate")
    assert shell.json("chain", "tip")["height"] == 6
    shell.json("stop")
    assert node.wait() == 0
    assert shell.json("db", "check")["sound"]


def test_a_chain_that_a_node_has_open_is_not_asked_about(home: NodeHome) -> None:
    shell = Shell(home)
    node = home.start("--network", "reg")
    node.wait_event("node.started")
    # One line, and no question that nobody can answer with yes.
    assert "in use by process" in shell.fails("db", "reset")
    shell.json("stop")
    assert node.wait() == 0
    done = shell.run("db", "reset")
    assert done.returncode == 1
    assert "Remove the chain" in done.stderr
    assert shell.json("db", "reset", "--yes")["freed"] > 0
    assert "there is no chain" in shell.fails("db", "reset")
