"""A network of a program's own (Linux), where whatever address it likes is this machine's: so that
its peers come from as many networks as there are, none of them loopback."""

from __future__ import annotations

import os
from collections.abc import Sequence

_SETUP = (
    "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo "
    '&& echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind && exec "$@"'
)


def inside(command: Sequence[str]) -> list[str]:
    """Return a command that runs another one in such a network, which ends with it. It needs root,
    or namespaces that users may make."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--net", *user, "sh", "-c", _SETUP, "sh", *command]
