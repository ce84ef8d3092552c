"""A node of unmodified libp2p in a process of its own, to show the faults that ours must not have.

Run as ``python -m tests.framework.p2p_stock SEED_BYTE LISTEN...``; it is driven as `p2p_node` is.
Its gossip is set as well as its options allow. It speaks Noise alone, since what its TLS agrees on
depends on the OpenSSL that Python was built with.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import AsyncExitStack
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.utils import read_exactly
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from multiaddr.multiaddr import Multiaddr

from tests.framework.p2p_node import ECHO, LARGE, STALL, TOPIC, resident, say

MAX_CONNECTIONS = 20
MESHSUB = [TProtocol(f"/meshsub/1.{minor}.0") for minor in (2, 1, 0)]


class Stock:
    def __init__(self, seed: int, listen: list[str]) -> None:
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)
        self.listen = [Multiaddr(text) for text in listen]
        self.heard: list[str] = []
        limits: dict[str, Any] = {"max_connections": MAX_CONNECTIONS, "min_connections": 0}
        limits |= {"low_watermark": 0, "high_watermark": MAX_CONNECTIONS}
        key_pair = create_new_key_pair(bytes([seed]) * 32)
        noise = Noise(key_pair, create_new_x25519_key_pair().private_key)
        self.host = new_host(
            key_pair=key_pair,
            sec_opt={NOISE_PROTOCOL: noise},
            listen_addrs=self.listen,
            connection_config=ConnectionConfig(**limits),
        )
        self.gossip = GossipSub(
            MESHSUB,
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.pubsub = Pubsub(self.host, self.gossip, strict_signing=True, allowed_topics={TOPIC})
        self.host.set_stream_handler(TProtocol(STALL), self.stall)
        self.host.set_stream_handler(TProtocol(LARGE), self.large)
        self.host.set_stream_handler(TProtocol(ECHO), self.echo)

    async def echo(self, stream: Any) -> None:
        """Take a request as ours are laid out, whose own fault is that it raises."""
        length = int.from_bytes(await read_exactly(stream, 4), "big")
        if (await read_exactly(stream, length)).startswith(b"raise"):
            raise KeyError("a fault of the handler")
        await stream.write(b"\0\0\0\0\0")
        await stream.close()

    async def stall(self, stream: Any) -> None:
        await trio.sleep_forever()

    async def large(self, stream: Any) -> None:
        length = int.from_bytes(await read_exactly(stream, 4), "big")
        await stream.write(bytes(int(await read_exactly(stream, length))))
        await stream.close()

    def validate(self, peer: ID, message: rpc_pb2.Message) -> bool:
        if message.data.startswith(b"raise"):
            raise KeyError("a fault of the validator")
        return True

    async def listener(self, subscription: Any) -> None:
        while True:
            message = await subscription.get()
            data = bytes(message.data)
            self.heard.append(data.hex() if len(data) < 100 else str(len(data)))

    async def do(self, command: str, *args: Any) -> Any:
        network: Any = self.host.get_network()
        if command == "connect":
            await self.host.connect(info_from_p2p_addr(Multiaddr(args[0])))
            return None
        if command == "large":
            stream = await self.host.new_stream(ID.from_base58(args[0]), [TProtocol(LARGE)])
            text = str(args[1]).encode()
            await stream.write(len(text).to_bytes(4, "big") + text)
            return len(await read_exactly(stream, args[1]))
        if command == "publish":
            data = args[0].encode()
            await self.pubsub.publish(TOPIC, data)
            return None
        if command == "publish many":
            count, size, first = args
            for number in range(count):
                data = (first + number).to_bytes(8, "big") * (size // 8)
                await self.pubsub.publish(TOPIC, data)
            return None
        if command == "blacklist":
            self.pubsub.add_to_blacklist(ID.from_base58(args[0]))
            return None
        if command == "state":
            router: Any = self.gossip
            pending = [rpc for queue in router._pending_messages.values() for _, rpc in queue]
            return {
                "peers": [str(peer) for peer in network.connections],
                "connections": sum(map(len, network.connections.values())),
                "topic peers": len(self.pubsub.peer_topics.get(TOPIC, ())),
                "mesh": [str(peer) for peer in router.mesh.get(TOPIC, ())],
                "pubsub peers": len(self.pubsub.peers),
                "heard": self.heard,
                "rss": resident(),
                "kept": sum(len(m.data) for m in router.equivocation_detection.values()),
                "pending": sum(rpc.ByteSize() for rpc in pending),
                "deliveries": sum(map(len, router.recent_message_deliveries.values())),
            }
        raise ValueError(command)

    async def main(self) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.host.run(self.listen))
            await stack.enter_async_context(background_trio_service(self.pubsub))
            await stack.enter_async_context(background_trio_service(self.gossip))
            nursery = await stack.enter_async_context(trio.open_nursery())
            self.pubsub.set_topic_validator(TOPIC, self.validate, False)
            nursery.start_soon(self.listener, await self.pubsub.subscribe(TOPIC))
            say(["listening", [str(address) for address in self.host.get_addrs()]])
            async with trio.lowlevel.FdStream(0) as stdin:
                rest = b""
                async for chunk in stdin:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        nursery.start_soon(self.answer, json.loads(line))
            nursery.cancel_scope.cancel()

    async def answer(self, command: list[Any]) -> None:
        number, name, *args = command
        try:
            say([number, "ok", await self.do(name, *args)])
        except Exception as error:  # noqa: BLE001 - reported to the test
            say([number, type(error).__name__, str(error)])


if __name__ == "__main__":
    trio.run(Stock(int(sys.argv[1]), sys.argv[2:]).main)
