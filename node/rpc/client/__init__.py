"""A client of a node's RPC, and how it finds the node."""
