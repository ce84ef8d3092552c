"""Who is shown the page without credentials."""

from __future__ import annotations

import ipaddress
from typing import Final

from starlette.types import Scope

from unchained.node.rpc.core.errors import ForbiddenError
from unchained.node.rpc.http.asgi import header

_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")
"""What a proxy adds: then the client is not the one who asks."""


def is_of_this_machine(scope: Scope) -> bool:
    """Return whether a browser of this machine asks, under a name that is this machine's own.

    A further name of `rpc.names` is not enough: a proxy on this machine passes those on. A proxy
    that adds no header and names this machine as host is known by its HTTP/1.0, which no browser
    speaks, or by the page that a browser says it comes from.
    """
    client = scope["client"]
    if client is None or not _is_loopback(client[0]) or scope["http_version"] == "1.0":
        return False
    if any(header(scope, name) is not None for name in _FORWARDED):
        return False
    host = (header(scope, b"host") or b"").decode("latin-1").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return (name == "localhost" or _is_loopback(name)) and not _is_of_another_host(scope, host)


def _is_of_another_host(scope: Scope, host: str) -> bool:
    """Return whether a browser says that it asks for a page's own parts, and the page is another
    host's: the browser knows the proxy's name."""
    if header(scope, b"sec-fetch-site") != b"same-origin":
        return False
    referer = (header(scope, b"referer") or b"").decode("latin-1").lower()
    _, separator, rest = referer.partition("://")
    return bool(separator) and rest.partition("/")[0] != host


def check_is_no_other_site(scope: Scope) -> None:
    """Turn away what another web page asks for: its pictures and forms cost work here. To follow a
    link from there is allowed. Raises ForbiddenError."""
    if header(scope, b"sec-fetch-site") not in (b"cross-site", b"same-site"):
        return
    if scope["method"] == "GET" and header(scope, b"sec-fetch-mode") == b"navigate":
        return
    raise ForbiddenError("web pages of other origins are not served", error="BAD_ORIGIN")


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
