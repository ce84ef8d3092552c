"""Bytes on disk: a key-value interface, LevelDB, and the layout of the node's tables."""
