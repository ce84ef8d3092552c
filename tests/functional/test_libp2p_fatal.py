"""Faults of libp2p 0.8.1 that let one peer end the process: shown on it, and gone in ours.

The victim is a process of its own; the attacker shakes hands as it should and then does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from libp2p.crypto.rsa import create_new_key_pair as create_rsa_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from tests.framework.p2p_attacker import Attacker, attacker
from tests.framework.p2p_node import ECHO, TOPIC
from tests.framework.p2p_process import Process, node

pytestmark = pytest.mark.real_time

Attack = Callable[[Attacker], Awaitable[None]]


async def garbage_protobuf(attack: Attacker) -> None:
    await attack.send(await attack.gossip(), b"\xff" * 50)


async def raising_handler(attack: Attacker) -> None:
    stream = await attack.open(ECHO)
    await stream.write(b"\0\0\0\5raise")


async def garbage_key(attack: Attacker) -> None:
    stranger = ID.from_pubkey(create_rsa_key_pair(2048).public_key)
    await attack.gossip(
        rpc_pb2.Message(
            from_id=stranger.to_bytes(),
            data=b"coin",
            seqno=b"\1" * 8,
            topicIDs=[TOPIC],
            signature=b"x" * 64,
            key=b"garbage",
        )
    )


@pytest.mark.parametrize(
    ("attack", "cause"),
    [
        (garbage_protobuf, "DecodeError"),
        (raising_handler, "a fault of the handler"),
        (garbage_key, "deserialize_public_key"),
    ],
)
async def test_stock_dies(attack: Attack, cause: str) -> None:
    """Faults 1 and 2."""

    async with node(1, module="p2p_stock") as victim, attacker(victim.address, 3) as peer:
        await attack(peer)
        with trio.fail_after(20):
            await victim.ended.wait()
        assert cause in victim.stderr()


async def still_serves(victim: Process, honest: Process) -> None:
    answer = await honest.outcome("request", victim.id, ECHO, "still there", 100, 10)
    assert answer == ["ok", "still there"]


async def test_ours_goes_on() -> None:
    async with node(1) as victim, node(2) as honest:
        await honest.ok("connect", victim.address, 10)
        for seed, (attack, kind) in enumerate(
            [(garbage_protobuf, "bad_gossip"), (garbage_key, "bad_gossip")], 3
        ):
            async with attacker(victim.address, seed) as peer:
                await attack(peer)
                who = peer.identity.peer
                await victim.event("misbehaved", "127.0.0.1", who, kind)
                await victim.event("disconnected", who, "misbehaved")
                with trio.fail_after(10):
                    await peer.closed.wait()
        kind, _ = await honest.outcome("request", victim.id, "/t/fail/1", "", 100, 10)
        assert kind == "RequestFailedError"
        await honest.ok("publish", "raise in the validator")
        state = await victim.state(lambda state: state["statistics"]["faults"] == 2)
        assert state["peers"] == [honest.id]
        assert "a fault of the handler" in victim.stderr()
        assert "a fault of the validator" in victim.stderr()
        await still_serves(victim, honest)
