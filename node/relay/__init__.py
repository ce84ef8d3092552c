"""Gossip in and out, and what is served to peers."""
