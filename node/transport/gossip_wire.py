"""Gossip's layout on the wire: libp2p's meshsub protobuf, unsigned (StrictNoSign)."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError
from libp2p.pubsub.pb import rpc_pb2

from unchained.node.transport.contract import MessageId
from unchained.node.transport.gossip_router import Rpc
from unchained.node.transport.libp2p.streams import varint

GOSSIP_PROTOCOLS: Final = ("/meshsub/1.2.0", "/meshsub/1.1.0")
"""Versions that are spoken, the best first. 1.1 does not know ids that are not wanted."""
RPC_BYTES_MAX: Final = 1 << 20
"""Bytes of one RPC."""
RPC_MESSAGES_MAX: Final = 256
"""Messages of an RPC: taking them in is one step, in which nobody else gets a turn. What
`RPC_MERGE_BYTES` lets a node send at once are 140 coins."""
RPC_ENTRIES_MAX: Final = 1024
"""Entries of any other list of an RPC; what `RPC_MERGE_BYTES` lets a node send at once are 862
ids."""
RPC_MERGE_BYTES: Final = 32 << 10
"""Bytes up to which waiting RPCs are sent as one."""


class BadRpcError(Exception):
    """Bytes that are no RPC, or one that is not allowed."""


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
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadRpcError(f"no RPC: {error}") from None
    control = rpc.control
    if len(rpc.publish) > RPC_MESSAGES_MAX:
        raise BadRpcError(f"more than {RPC_MESSAGES_MAX} messages")
    lists = (rpc.subscriptions, control.ihave, control.graft, control.prune)
    if any(
        len(entries) > RPC_ENTRIES_MAX for entries in (*lists, control.iwant, control.idontwant)
    ):
        raise BadRpcError(f"more than {RPC_ENTRIES_MAX} entries")
    messages = []
    for message in rpc.publish:
        if message.from_id or message.seqno or message.signature or message.key:
            raise BadRpcError("a signed message: this network's are unsigned")
        if len(message.topicIDs) != 1:
            raise BadRpcError(f"a message of {len(message.topicIDs)} topics")
        messages.append((str(message.topicIDs[0]), bytes(message.data)))
    subscriptions = [(sub.subscribe, str(sub.topicid)) for sub in rpc.subscriptions]
    return Rpc(
        subscribe=tuple(topic for begin, topic in subscriptions if begin),
        unsubscribe=tuple(topic for begin, topic in subscriptions if not begin),
        messages=tuple(messages),
        have=tuple(
            (str(have.topicID), tuple(MessageId(bytes(mid)) for mid in have.messageIDs))
            for have in control.ihave
        ),
        want=tuple(MessageId(bytes(mid)) for want in control.iwant for mid in want.messageIDs),
        unwanted=tuple(
            MessageId(bytes(mid)) for unwanted in control.idontwant for mid in unwanted.messageIDs
        ),
        graft=tuple(str(graft.topicID) for graft in control.graft),
        prune=tuple((str(prune.topicID), int(prune.backoff)) for prune in control.prune),
    )
