"""Talking to other nodes: the host, gossip, requests, peers and what they are worth."""
