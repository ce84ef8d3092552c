"""A node: its rules, its chain, its network, its faces."""

from unchained.node.base.lean_structlog import spare_rich

# Before any room imports structlog.
spare_rich()
