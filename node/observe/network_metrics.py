"""Rows of the table of metrics: peers, gossip, requests, sync."""

from __future__ import annotations

from typing import Final

from unchained.node.observe.metric import Metric, counter, gauge, histogram

NETWORK_METRICS: Final[tuple[Metric, ...]] = (
    # Peers
    gauge("peers", "network.peers{inbound,outbound}", "Peers connected.", label="direction"),
    gauge("peers_greeted", "network.peers.greeted", "Peers that speak the node's protocol."),
    gauge(
        "peers_apart",
        "peers_apart",
        "Peers whose tip is neither this node's nor one that it had a short while ago.",
    ),
    gauge(
        "peers_claimed_height",
        "network.peers.claimed_height",
        "The greatest height that a peer claims; what it claims decides nothing.",
        "anchors",
    ),
    gauge("peers_classical", "network.transport.classical", "Peers without a post-quantum link."),
    gauge(
        "peers_known",
        "network.peers.book{new,tried}",
        "Addresses known, by whether a peer was ever met there.",
        label="table",
    ),
    gauge("peers_banned", "network.peers.bans", "Bans that hold."),
    counter(
        "peers_bans",
        "network.peers.bans_made",
        "Bans.",
        sampled="when a group of peers is banned",
    ),
    counter(
        "peers_penalties",
        "network.peers.penalties",
        "Penalties by kind.",
        label="penalty",
        sampled="when a peer breaks a rule",
    ),
    counter(
        "peers_dials",
        "network.peers{dials,dials_failed,probes}",
        "Dials, those that failed, and looks whether an address is good.",
        label="kind",
        sampled="when a dial ends",
    ),
    gauge(
        "peers_clock_offset_seconds",
        "clock_offset_s",
        "By how much the peers' clocks are ahead of this one, their median; missing while few.",
        "seconds",
    ),
    histogram(
        "peers_latency",
        "network.peers.latency",
        "Time that peers took to answer when they were asked how they stand.",
        sampled="when a peer has answered, each four times a minute at most",
    ),
    # Gossip and requests
    counter(
        "gossip_messages",
        "network.transport{gossip_published,gossip_received,gossip_duplicates}",
        "Gossip messages sent of one's own, and received, for the first time and again.",
        label="kind",
        sampled="when a message comes or goes",
    ),
    counter(
        "gossip_outcomes",
        "network.transport{gossip_accepted,gossip_ignored,gossip_rejected,gossip_dropped}",
        "What became of gossip messages; dropped ones found a queue full.",
        label="outcome",
        sampled="when a message is judged",
    ),
    counter(
        "relay_rules_broken",
        "network.relay.rules",
        "Rules that what peers sent broke.",
        label="rule",
        sampled="when something is rejected",
    ),
    counter(
        "relay_bodies_fetched",
        "network.relay.bodies_fetched",
        "Bodies fetched from peers that announced an anchor.",
        sampled="when a body has come",
    ),
    gauge("stem_held", "network.stem.held", "Transfers that travel along a stem.", "transfers"),
    counter(
        "stem_transfers",
        "network.stem{handed_on,not_taken,fluffed,embargoes}",
        "What became of transfers in their stem.",
        "transfers",
        label="outcome",
        sampled="when a transfer goes on",
    ),
    counter(
        "requests",
        "network.transport{requests_sent,requests_failed,requests_served,requests_refused}",
        "Requests to peers and by peers.",
        label="kind",
        sampled="when a request ends",
    ),
    counter(
        "network_bytes",
        "network.transport{bytes_received,bytes_sent}",
        "Bytes between this node and its peers, encryption included.",
        "bytes",
        label="direction",
        sampled="when bytes come or go",
    ),
    counter(
        "connections_refused",
        "network.transport{gate_refused,handshakes_failed,security_mismatches,connections_refused}",
        "Connections that came to nothing.",
        label="why",
        sampled="when a connection is refused",
    ),
    counter(
        "transport_faults",
        "network.transport{faults,misbehaviours}",
        "Exceptions of this node's own handlers, and offences of peers against the transport.",
        label="kind",
        sampled="when one happens",
    ),
    # Sync
    gauge("sync_synced", "network.sync.synced", "1 if the chain is level with the peers', else 0."),
    gauge("sync_running", "network.sync.syncing", "1 while anchors are being fetched, else 0."),
    gauge("sync_target_height", "network.sync.target_height", "Height being fetched.", "anchors"),
    gauge("sync_lag", "sync_lag", "Anchors that are still to be fetched.", "anchors"),
    gauge("sync_rate", "network.sync.rate", "Anchors per second that sync connects."),
    gauge("sync_in_flight", "network.sync.in_flight", "Requests for bodies under way."),
    counter(
        "sync_items",
        "network.sync{headers,bodies,votes,proofs_skipped}",
        "Headers read, bodies and votes fetched, proofs taken as verified.",
        label="kind",
        sampled="when they have come",
    ),
)
"""Of what joins the node to others."""
