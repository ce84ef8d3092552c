"""The files of a data directory by which a node is found and lets its owner in."""

from __future__ import annotations

from typing import Final

COOKIE_FILE: Final = "rpc.cookie"
"""Name of the cookie's file in the data directory."""

TOKEN_FILE: Final = "rpc.token"  # noqa: S105 - the name of a file
"""Name of the read-only token's file in the data directory."""

SOCKET_FILE: Final = "rpc.socket"
"""Name of the Unix socket in the data directory: whoever may open it is the node's owner."""

URL_FILE: Final = "rpc.url"
"""Name of the file in the data directory that says where the node listens."""
