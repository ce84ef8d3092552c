"""Gossip's layout on the wire: libp2p's meshsub protobuf, unsigned (StrictNoSign)."""

from __future__ import annotations

from collections import deque
from typing import Final

from google.protobuf.message import DecodeError
from libp2p.pubsub.pb import rpc_pb2

from unchained.node.transport.contract import MessageId
from unchained.node.transport.gossip_limits import (
    ID_BYTES,
    RPC_ENTRIES_MAX,
    RPC_IDS_MAX,
    RPC_MERGE_BYTES,
    RPC_MESSAGES_MAX,
)
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.libp2p.streams import varint
from unchained.node.transport.rpc_fields import BadRpcError, count_fields

GOSSIP_PROTOCOLS: Final = ("/meshsub/1.2.0", "/meshsub/1.1.0")
"""Versions that are spoken, the best first. 1.1 does not know ids that are not wanted."""


def take_batch(waiting: deque[Rpc]) -> list[Rpc]:
    """Take the first RPC out of a queue, and as many after it as may go out as one with it."""
    batch = [waiting.popleft()]
    size, messages, entries, ids = _load(batch[0])
    while waiting:
        more = _load(waiting[0])
        size, messages, entries, ids = (
            size + more[0],
            messages + more[1],
            entries + more[2],
            ids + more[3],
        )
        if size > RPC_MERGE_BYTES or not _is_allowed(messages, entries, ids):
            break
        batch.append(waiting.popleft())
    return batch


def _load(rpc: Rpc) -> tuple[int, int, int, int]:
    """Return the bytes, messages, entries and ids of an RPC."""
    lists = (rpc.subscribe, rpc.unsubscribe, rpc.have, rpc.graft, rpc.prune)
    ids = len(rpc.want) + len(rpc.unwanted) + sum(len(ids) for _, ids in rpc.have)
    entries = sum(map(len, lists)) + bool(rpc.want) + bool(rpc.unwanted)
    return rpc.size(), len(rpc.messages), entries, ids


def _is_allowed(messages: int, entries: int, ids: int) -> bool:
    return messages <= RPC_MESSAGES_MAX and entries <= RPC_ENTRIES_MAX and ids <= RPC_IDS_MAX


def encode(rpcs: list[Rpc], protocol: str = GOSSIP_PROTOCOLS[0]) -> bytes:
    """Return RPCs as one of a version of gossip, with its length before it."""
    out = rpc_pb2.RPC()
    control = rpc_pb2.ControlMessage()
    for rpc in rpcs:
        for topic in rpc.subscribe:
            out.subscriptions.add(subscribe=True, topicid=topic)
        for topic in rpc.unsubscribe:
            out.subscriptions.add(subscribe=False, topicid=topic)
        for topic, data in rpc.messages:
            out.publish.add(data=data, topicIDs=[topic])
        for topic, ids in rpc.have:
            control.ihave.add(topicID=topic, messageIDs=ids)
        if rpc.want:
            control.iwant.add(messageIDs=rpc.want)
        if rpc.unwanted and protocol == GOSSIP_PROTOCOLS[0]:
            control.idontwant.add(messageIDs=rpc.unwanted)
        for topic in rpc.graft:
            control.graft.add(topicID=topic)
        for topic, seconds in rpc.prune:
            control.prune.add(topicID=topic, backoff=seconds)
    if control.ByteSize():
        out.control.CopyFrom(control)
    data = out.SerializeToString()
    return varint(len(data)) + data


def decode(data: bytes) -> Rpc:
    """Read one RPC; raises `BadRpcError`."""
    count_fields(data)
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadRpcError(f"no RPC: {error}") from None
    control = rpc.control
    lists = (control.ihave, control.iwant, control.idontwant)
    entries = len(rpc.subscriptions) + len(control.graft) + len(control.prune)
    entries += sum(len(found) for found in lists)
    ids = sum(len(entry.messageIDs) for found in lists for entry in found)
    if not _is_allowed(len(rpc.publish), entries, ids):
        raise BadRpcError(
            f"{len(rpc.publish)} messages, {entries} entries, {ids} ids: "
            f"at most {RPC_MESSAGES_MAX}, {RPC_ENTRIES_MAX}, {RPC_IDS_MAX}"
        )
    messages = []
    for message in rpc.publish:
        if message.from_id or message.seqno or message.signature or message.key:
            raise BadRpcError("a signed message: this network's are unsigned")
        if len(message.topicIDs) != 1:
            raise BadRpcError(f"a message of {len(message.topicIDs)} topics")
        messages.append((_topic(message.topicIDs[0]), bytes(message.data)))
    subscriptions = [(sub.subscribe, _topic(sub.topicid)) for sub in rpc.subscriptions]
    return Rpc(
        subscribe=tuple(topic for begin, topic in subscriptions if begin),
        unsubscribe=tuple(topic for begin, topic in subscriptions if not begin),
        messages=tuple(messages),
        have=tuple(
            (_topic(have.topicID), tuple(map(_id, have.messageIDs))) for have in control.ihave
        ),
        want=tuple(_id(mid) for want in control.iwant for mid in want.messageIDs),
        unwanted=tuple(_id(mid) for unwanted in control.idontwant for mid in unwanted.messageIDs),
        graft=tuple(_topic(graft.topicID) for graft in control.graft),
        prune=tuple((_topic(prune.topicID), int(prune.backoff)) for prune in control.prune),
    )


def _topic(text: object) -> str:
    # What is no UTF-8 comes as bytes.
    if not isinstance(text, str):
        raise BadRpcError("a topic that is no UTF-8")
    return text


def _id(raw: bytes) -> MessageId:
    if len(raw) != ID_BYTES:
        raise BadRpcError(f"an id of {len(raw)} bytes: {ID_BYTES}")
    return MessageId(bytes(raw))
