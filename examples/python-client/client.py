"""A reader of Unchained's network, with stock py-libp2p: it joins a node, reads the headers of its
chain, checks them as far as that needs no state, and follows the coins that are mined.

    pip install libp2p==0.8.1 msgspec blake3
    python client.py /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW… GENESIS_ID --coins 3

Written from docs/wire.md alone. It prints one line of JSON for everything that it learns. The node
must take classical links (docs/network.md). `unchained-node status` shows GENESIS_ID.
"""

from __future__ import annotations

import argparse
import json
import logging
import struct
import sys
import time
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import msgspec
import trio
from blake3 import blake3
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.utils import read_exactly
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

VERSION = 1
HEADERS_AT_ONCE = 512
ANSWER_BYTES_MAX = 205_000
ZERO = bytes(32)
COIN = struct.Struct(">IH32sQQQ32s32s32sQ32s")


class Coin(NamedTuple):
    """The fields of a coin, 198 bytes on the wire."""

    chain_id: int
    version: int
    parent: bytes
    height: int
    time: int
    n_total: int
    target: bytes
    lock: bytes
    body_root: bytes
    nonce: int
    mix: bytes


def digest(context: str, data: bytes) -> bytes:
    """H(context, data) of the protocol."""
    return blake3(data, derive_key_context=f"unchained v1 {context}").digest()


class BadAnswerError(Exception):
    """The node's answer is none, or not one to what was asked."""


def open_coin(raw: bytes) -> tuple[bytes, Coin]:
    """Return a coin's id and its fields, once its id meets its own target."""
    if len(raw) != COIN.size:
        raise BadAnswerError(f"a coin of {len(raw)} bytes")
    coin, coin_id = Coin(*COIN.unpack(raw)), digest("coin", raw)
    if coin_id > coin.target:
        raise BadAnswerError(f"{coin_id.hex()} is above its target")
    return coin_id, coin


def check_header(header: Any, parent: bytes, height: int) -> tuple[bytes, Coin]:
    """Return an anchor's id and its coin, once it fits on its parent and commits to its roots."""
    raw, *lists, state_root, history_root = header
    anchor_id, coin = open_coin(raw)
    if coin.parent != parent or coin.height != height:
        raise BadAnswerError(f"{anchor_id.hex()} is no child of {parent.hex()}")
    roots = [digest("merkle", struct.pack(">I", n) + top) for n, top in lists]
    if digest("body", b"".join(roots) + state_root + history_root) != coin.body_root:
        raise BadAnswerError(f"{anchor_id.hex()} commits to other roots")
    return anchor_id, coin


class Client:
    """One peer that reads."""

    def __init__(self, genesis: bytes) -> None:
        self.genesis = genesis
        logging.getLogger("libp2p").setLevel(logging.CRITICAL)
        self.host = new_host(key_pair=create_new_key_pair(), listen_addrs=[])
        gossip = GossipSub(
            [TProtocol("/meshsub/1.2.0"), TProtocol("/meshsub/1.1.0")],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.gossip = gossip
        self.pubsub = Pubsub(
            self.host, gossip, strict_signing=False, msg_id_constructor=self.message_id
        )
        # A node asks every peer how it stands, and drops who does not answer.
        self.host.set_stream_handler(self.name("status"), self.answer_status)

    def name(self, kind: str) -> TProtocol:
        """Return a protocol id or a topic of this network."""
        return TProtocol(f"/unchained/{self.genesis[:4].hex()}/{kind}/1")

    @staticmethod
    def message_id(message: Any) -> bytes:
        """Hash topic and data: messages carry neither author nor number."""
        topic = message.topicIDs[0].encode()
        return digest("gossip", struct.pack(">H", len(topic)) + topic + message.data)

    def status(self) -> list[Any]:
        """A reader has no chain: it stands at genesis."""
        return [self.genesis, self.genesis, 0, ZERO, VERSION, time.time_ns() // 1_000_000]

    async def answer_status(self, stream: Any) -> None:
        """Answer one request: u8 status, u32 length, u8 code, MessagePack."""
        try:
            (length,) = struct.unpack(">I", await read_exactly(stream, 4))
            await read_exactly(stream, min(length, 256))
            body = b"\0" + msgspec.msgpack.encode(self.status())
            await stream.write(struct.pack(">BI", 0, len(body)) + body)
            await stream.close()
        except Exception as error:  # noqa: BLE001 - whatever is raised here would end py-libp2p
            say(failed=f"status: {error!r}")

    async def ask(self, peer: Any, kind: str, request: list[Any]) -> Any:
        """Send one request on a stream of its own, and return what the answer gives."""
        with trio.fail_after(20):
            stream = await self.host.new_stream(peer, [self.name(kind)])
            try:
                raw = msgspec.msgpack.encode(request)
                await stream.write(struct.pack(">I", len(raw)) + raw)
                await stream.close()
                status, length = struct.unpack(">BI", await read_exactly(stream, 5))
                if status or not 0 < length <= ANSWER_BYTES_MAX:
                    raise BadAnswerError(f"{kind}: status {status}, {length} bytes")
                body = await read_exactly(stream, length)
            finally:
                await stream.reset()
        if body[0]:
            raise BadAnswerError(f"{kind}: code {body[0]}")
        return msgspec.msgpack.decode(body[1:])

    async def read_headers(self, peer: Any) -> tuple[bytes, int]:
        """Read the chain from genesis on; return its last anchor and its height."""
        parent, height = self.genesis, 0
        while True:
            page = await self.ask(peer, "headers", [[parent], ZERO])
            for header in page:
                height += 1
                parent, coin = check_header(header, parent, height)
                say(anchor=parent.hex(), height=height, time=coin.time)
            if len(page) < HEADERS_AT_ONCE:
                return parent, height

    async def follow_coins(self, count: int) -> None:
        """Print the coins of the gossip as they come."""
        subscription = await self.pubsub.subscribe(self.name("coin"))
        say(following=str(self.name("coin")))
        for _ in range(count):
            message = await subscription.get()
            coin_id, coin = open_coin(message.data)
            say(coin=coin_id.hex(), height=coin.height, parent=coin.parent.hex())

    async def run(self, address: str, coins: int) -> None:
        """Join a node and tell what it knows."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.host.run(listen_addrs=[]))
            await stack.enter_async_context(background_trio_service(self.pubsub))
            await stack.enter_async_context(background_trio_service(self.gossip))
            target = info_from_p2p_addr(Multiaddr(address))
            await self.host.connect(target)
            genesis, tip, height, *_ = await self.ask(target.peer_id, "status", self.status())
            if genesis != self.genesis:
                raise BadAnswerError(f"the node is of another network: {genesis.hex()}")
            say(peer=str(target.peer_id), tip=tip.hex(), height=height)
            last, reached = await self.read_headers(target.peer_id)
            say(read=reached, tip=last.hex())
            await self.follow_coins(coins)
            await self.host.close()


def say(**fields: Any) -> None:
    """Print what was learned."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Take the command line's word for address, genesis and count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address", help="such as /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW…")
    parser.add_argument("genesis", type=bytes.fromhex, help="the network's genesis id, in hex")
    parser.add_argument("--coins", type=int, default=3, help="how many to follow")
    given = parser.parse_args()
    try:
        trio.run(Client(given.genesis).run, given.address, given.coins)
    except Exception as error:  # noqa: BLE001 - one line says more than a library's traceback
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        sys.exit(
            f"client: {cause or type(cause).__name__}: is the node there, of this network, and "
            "does it take classical links (network.security = any)?"
        )


if __name__ == "__main__":
    main()
