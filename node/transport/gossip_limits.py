"""Gossip's limits, for who writes an RPC and who reads it: one definition of each.

Bytes, counts, and heartbeats of `HEARTBEAT_S`. What goes beyond a limit of an RPC (`RPC_…`) is a
breach, and nothing of it is taken in; what goes beyond any other is ignored, and is waste.
"""

from __future__ import annotations

from typing import Final

HEARTBEAT_S: Final = 1.0

ID_BYTES: Final = 32
"""Of a message's id, neither more nor less."""
RPC_BYTES_MAX: Final = 1 << 20
"""Bytes of one RPC."""
RPC_MESSAGES_MAX: Final = 256
"""Messages of an RPC: taking them in is one step, in which nobody else gets a turn."""
RPC_ENTRIES_MAX: Final = 1024
"""Entries of all other lists of an RPC together: subscriptions, and those of its control."""
RPC_IDS_MAX: Final = 2048
"""Ids of an RPC, in all its lists together."""
RPC_MERGE_BYTES: Final = 32 << 10
"""Bytes up to which waiting RPCs are sent as one."""

IDS_PER_HEARTBEAT_MAX: Final = 1024
"""Ids taken from one peer per heartbeat, of those it has and wants; also what one IHAVE holds."""
ASKED_OF_PEER_MAX: Final = 512
"""Ids that are asked of one peer and have not come, so that nobody fills the places of others."""
UNWANTED_SAID_PER_HEARTBEAT_MAX: Final = 128
"""Ids that one peer is told are not wanted, per heartbeat: whoever sends us much, and nothing good,
has us say no more."""
UNWANTED_PER_HEARTBEAT_MAX: Final = 2 * UNWANTED_SAID_PER_HEARTBEAT_MAX
"""Such ids taken from one peer: the hearts of two nodes do not beat together."""
UNWANTED_HEARTBEATS: Final = 3
"""Heartbeats after which they are forgotten: what they name has come by then, or never does, which
is nobody's fault: who said so had not validated it."""
SENDS_ON_REQUEST_MAX: Final = 3
"""Times that one message is sent to one peer on request."""

WASTE_PER_FAULT: Final = 10_000
"""Units of waste that are one `Misbehaviour.WASTED_GOSSIP`; a unit is an id of no use."""
WASTE_FORGIVEN_PER_HEARTBEAT: Final = 100
"""Units forgiven: ids cross each other on the way, and messages are lost."""
WASTE_OF_BROKEN_PROMISE: Final = 10
"""Units for an id that was announced, asked for and not sent: others were not asked meanwhile."""
WASTE_OF_GRAFT: Final = 100
"""Units for a GRAFT in the back-off that a PRUNE gave: each is answered."""
WASTE_OF_UNKNOWN_TOPIC: Final = 10
"""Units for a subscription, GRAFT or PRUNE of a topic that is none of ours."""
