"""What the commands of the network say of what they did."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unchained.node.cli import main
from unchained.node.cli.asker import Asker

PEER = "12D3KooWAcG28yaN8zBsn1oztp2YuoNwGq32RgbAEzGEwRMFRWhK"
ASKED = f"/ip4/203.0.113.7/tcp/4001/p2p/{PEER}"
OTHER = f"/ip4/198.51.100.9/tcp/4001/p2p/{PEER}"


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (None, f"connected to {PEER}"),
        (ASKED, f"connected to {PEER} already"),
        (
            OTHER,
            f"connected to {PEER} already, at {OTHER}: {ASKED} was not tried; it is remembered",
        ),
    ],
)
def test_a_peer_that_was_connected_before_is_not_said_to_have_been_reached(
    there: str | None,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    peers = [] if there is None else [{"peer": PEER, "address": there}]
    answers: dict[str, Any] = {"net.peers": peers, "net.add_peer": PEER}
    monkeypatch.setattr(Asker, "call", lambda self, method, **_: answers[method])
    assert main.run(["net", "add-peer", ASKED]) == 0
    assert capsys.readouterr().out == f"{says}\n"
    assert main.run(["net", "add-peer", ASKED, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == PEER
