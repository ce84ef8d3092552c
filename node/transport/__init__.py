"""Bytes between nodes: the contract, gossip without I/O, and libp2p under it."""

from unchained.node.transport.lean_libp2p import defer_unused

# Before any module of this room, or what it imports, imports libp2p.
defer_unused()
