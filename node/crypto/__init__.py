"""Cryptography of the protocol: Merkle, accumulators, proof of work, keys (Protocol §2-§4, §9)."""
