"""The content-addressed id of a gossiped message (Protocol §11)."""

from __future__ import annotations

from blake3 import blake3

from unchained.node.transport.contract import MessageId


def message_id(topic: str, data: bytes) -> MessageId:
    """Return the hash of topic and data, the same whichever peer sends or signs the message."""
    name = topic.encode()
    hasher = blake3(derive_key_context="unchained v1 gossip")
    hasher.update(len(name).to_bytes(2, "big"))
    hasher.update(name)
    hasher.update(data)
    return MessageId(hasher.digest())
