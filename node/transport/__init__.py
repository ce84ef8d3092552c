"""Bytes between nodes: the contract, gossip without I/O, and libp2p under it."""
