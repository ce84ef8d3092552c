"""A node of release 0.1, as it was recorded, meets one of these rules: they part, and one line says
why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError

from tests.framework.p2p_attacker import attacker
from tests.framework.processes import node_home
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG
from unchained.node.transport.libp2p.streams import MuxedStream, StreamBrokenError

RECORDED = json.loads(
    (Path(__file__).parents[1] / "vectors" / "wire-0.1.json").read_text(encoding="utf-8")
)
PARTED_S = 10.0


async def say_what_was_recorded(address: str, seed: int) -> None:
    """Connect, write what the earlier node wrote until that is enough, and wait until the
    connection is closed."""
    async with attacker(address, seed) as earlier:
        try:
            for written in RECORDED["opened"]:
                stream = MuxedStream(await earlier.muxer.open_stream())
                await stream.write(bytes.fromhex(written))
        except (StreamBrokenError, MuxedStreamError):
            pass  # what came first was enough to part by
        with trio.fail_after(PARTED_S):
            await earlier.closed.wait()


def test_an_earlier_node_is_parted_from_with_one_line_that_names_both_genesis_ids(
    request: pytest.FixtureRequest,
) -> None:
    with node_home(request) as home:
        node = home.start("--network", "reg", "--listen", "/ip4/127.0.0.1/tcp/0")
        (address,) = node.wait_event("net.listening")["addresses"]
        node.wait_event("node.started")
        for seed in (1, 2):
            trio.run(say_what_was_recorded, address, seed)
        node.stop()
        lines = [line for line in node.events if line["event"] == "peer.other_network"]
        assert [(line["level"], line["ours"], line["theirs"]) for line in lines] == [
            ("warning", f"reg {genesis_of(REG).id.hex()}", f"release 0.1 {RECORDED['genesis']}")
        ]
        events = {line["event"] for line in node.events}
        assert not events & {"peer.banned", "peer.connected", "net.stream_failed"}
