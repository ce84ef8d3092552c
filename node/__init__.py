"""A node: its rules, its chain, its network, its faces."""
