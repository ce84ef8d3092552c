"""The node over HTTP: JSON-RPC, events, health."""
