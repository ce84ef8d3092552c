"""How much a node may keep: figures of the protocol and of the documents, written down once more.

No limit of the node's own is read here, so that one which has been lifted is noticed. Most are far
above what a small network ever needs: so what a node keeps altogether is also compared with what
there is in its network, and where the queues are made small, what is held may not grow past that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from unchained.node.chain.core import ChainCore
from unchained.node.chain.mempool.mempool import Mempool
from unchained.node.consensus.genesis import genesis_of
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema

if TYPE_CHECKING:
    from tests.framework.simulation.simulated_node import SimulatedNode

KIB: Final = 1 << 10
MIB: Final = 1 << 20

COIN_BYTES: Final = 1 * KIB
"""Memory that a coin which is held takes, with its sender (`docs/architecture.md`: 4,096 of them
some 4 MB)."""
ANCHOR_BYTES: Final = 6 * KIB
"""Memory that an anchor of the tree takes, with 16 coins (`docs/decisions/deep-forks.md`)."""
ENTRY_BYTES: Final = 1 * KIB
"""Memory that a transfer takes which waits, beside its bytes on disk."""
SEEN_BYTES: Final = 120
ADDRESS_BYTES: Final = 1 * KIB

MEMORY_OF_ANYBODY: Final = 1 * MIB
"""What a node may keep of what its network never agreed to: junk of hostile peers."""
MEMORY_PER_COIN: Final = 2 * KIB
"""What it may keep for each coin that honest nodes have accepted: it is gossiped, held, counted."""
MEMORY_PER_PAYMENT: Final = 32 * KIB
"""The same for each payment: its bytes in the caches of gossip, decoded, and as it waits."""

DISK_OF_ANYBODY: Final = 128 * KIB
"""Addresses, bans, genesis: bytes on disk that are nobody's coin."""
DISK_PER_COIN: Final = 1 * KIB
"""Bytes on disk for each coin: the coin, what it is bound to, its place in coin set, history and
state, as one who was paid and as one who spent it (`docs/storage.md`)."""
DISK_PER_ANCHOR: Final = 1 * KIB
"""Bytes on disk for each anchor beside its coin: record with body, undo data, state, events."""
DISK_PER_PAYMENT: Final = 16 * KIB
"""Bytes on disk for each transfer: two signatures, notes, its place, its outputs, its events."""

MADE_SMALL: Final = (
    "operations that wait for the writer", "places for operations",
    "changes that a reader is behind", "orphans", "early coins",
)  # fmt: skip
"""What has room for next to nothing, in nodes that start then, while queues are small."""


class Holding(NamedTuple):
    """What a node keeps of one kind: how much, the most that is right, and `bytes_each` of memory
    that one takes, 0 where it is counted elsewhere."""

    what: str
    held: float
    most: float
    bytes_each: float = 0


def holdings(node: SimulatedNode) -> Iterator[Holding]:
    """Yield all that a node keeps and that somebody else could fill."""
    yield from _of_chain(node)
    yield from _of_gossip(node)
    yield from _of_network(node)


def _of_chain(node: SimulatedNode) -> Iterator[Holding]:
    chain = node.chain
    core = chain._writer._core
    queue = chain._writer._send.statistics()
    yield Holding("operations that wait for the writer", queue.current_buffer_used, 256, KIB)
    yield Holding("places for operations", queue.max_buffer_size, 256)
    for reader in chain.changes._subscriptions:
        yield Holding("changes that a reader is behind", len(reader._items), 256, COIN_BYTES)
    yield Holding("orphans", len(chain._intake._orphans), 4_096, COIN_BYTES)
    yield Holding("early coins", len(chain._intake._early), 1_024, COIN_BYTES)
    mempool: Mempool = core.mempool
    waiting = sum(entry.raw_size for entry in mempool._entries.values())
    # Protocol §8.4: "Mempool 64 MiB"
    yield Holding("bytes in the mempool", waiting, 64 * MIB)
    yield Holding("transfers that wait", len(mempool._entries), 64 * MIB / 200, ENTRY_BYTES)
    yield Holding("verdicts", len(core.transfers._verdicts), 65_536, 160)
    decoded = sum(len(one.sized.raw) for one in core.transfers._proven.values())
    yield Holding("bytes of decoded transfers", decoded, 8 * MIB, 3)
    # docs/decisions/deep-forks.md: "At most 8,192 anchors in a lowered tree"
    yield Holding("anchors in the tree", len(core.tree.nodes), 8_192, ANCHOR_BYTES)


def _of_gossip(node: SimulatedNode) -> Iterator[Holding]:
    router = node.transport.switchboard.router
    peers = len(node.transport.peers())
    yield Holding("gossip that has been seen", len(router._seen), 65_536, SEEN_BYTES)
    cached = sum(len(each.data) + 160 for each in router._cache.values())
    yield Holding("bytes in the gossip cache", cached, 16 * MIB, 1)
    # docs/network.md: "512 are asked of one peer at a time"
    yield Holding("gossip that was asked for", len(router._asked), 512 * max(1, peers), SEEN_BYTES)
    for name, topic in router._topics.items():
        waiting = topic.queue._bytes.total()
        yield Holding(f"bytes that wait to be validated in {name}", waiting, 8 * MIB, 1)
    for peer, end in node.transport._ends.items():
        # docs/network.md: gossip "at most 4 MiB of one, then dropped", and answers that were begun
        yield Holding(f"bytes on their way to {peer}", end.waiting_bytes(), 13 * MIB, 1)
        # docs/network.md: "streams of one peer served at a time: 64"
        yield Holding(f"answers to {peer}", len(end.answering), 64, KIB)


def _of_network(node: SimulatedNode) -> Iterator[Holding]:
    network = node.network
    # docs/network.md: 1,024 and 256 buckets of 64
    yield Holding("addresses", len(network.peers.book), 81_920, ADDRESS_BYTES)
    yield Holding("bans", len(network.peers.reputation.active_bans()), 8_192, KIB)
    # docs/network.md: "512 or 8 MiB of all"
    yield Holding("transfers on the stem", len(network.stem._held), 512, 16 * KIB)
    sync = network.sync
    # Six batches of eight peers; each of two full bodies at most.
    yield Holding("batches on their way", sync._downloader.in_flight, 48, 64 * KIB)
    for peer, state in sync._states.items():
        yield Holding(f"anchors wanted of {peer}", len(state.wanted), 16, KIB)


def memory_of(node: SimulatedNode) -> float:
    """Return the bytes of memory that a node takes for all of this."""
    return sum(each.held * each.bytes_each for each in holdings(node))


def memory_max(coins: int, payments: int) -> int:
    """Return the bytes of memory that a node may take in a network that has accepted so much."""
    return MEMORY_OF_ANYBODY + MEMORY_PER_COIN * coins + MEMORY_PER_PAYMENT * payments


def disk_of(values: Mapping[bytes, bytes]) -> int:
    """Return the bytes of all keys and values of a store."""
    return sum(len(key) + len(value) for key, value in values.items())


def disk_max(coins: int, height: int, payments: int) -> int:
    """Return the bytes that a node's store may have in such a network."""
    return (
        DISK_OF_ANYBODY
        + DISK_PER_COIN * coins
        + DISK_PER_ANCHOR * height
        + DISK_PER_PAYMENT * payments
    )


def stale_candidates(core: ChainCore) -> list[bytes]:
    """Return the coins that a chain has kept though nothing can come of them: candidates and votes
    for what lies below the tree, which Protocol §6 lets no reorganisation reach."""
    lowest, genesis = core.tree.root.height, genesis_of(core.network).id
    return [
        coin_id
        for coin_id, raw in schema.COIN.scan(core.store)
        if coin_id != genesis
        and Coin.from_bytes(raw).height <= lowest
        and schema.HISTORY.get(core.store, coin_id) is None
        and not core.tree.is_listed(CoinId(coin_id))
    ]
