"""Light or dark: what somebody chose for this browser, kept in a cookie, so that it holds without
script; else what the browser itself asks for."""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

from starlette.types import Scope

from unchained.node.rpc.core.errors import InvalidParamsError, short
from unchained.node.rpc.http.asgi import header

Theme = Literal["auto", "light", "dark"]

THEMES: Final[tuple[Theme, ...]] = get_args(Theme)

THEME_COOKIE: Final = "unchained_theme"
KEPT_S: Final = 365 * 24 * 3_600

_COOKIE: Final = re.compile(rf"(?:^|;\s*){THEME_COOKIE}=(light|dark)(?:;|$)")
_PATH: Final = re.compile(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?")
"""A path of this site, not `//HOST` nor what a browser takes for it."""


def theme_of(scope: Scope) -> Theme:
    """Return the theme that a request's browser was given."""
    found = _COOKIE.search((header(scope, b"cookie") or b"").decode("latin-1"))
    if found is None:
        return "auto"
    return "dark" if found[1] == "dark" else "light"


def theme_cookie(theme: str, *, secure: bool) -> str:
    """Return the header that lets a browser keep a theme, or forget it. Raises
    InvalidParamsError."""
    if theme not in THEMES:
        raise InvalidParamsError(
            f"the theme is one of {', '.join(THEMES)}, not {short(repr(theme))}"
        )
    age = 0 if theme == "auto" else KEPT_S
    ending = "; Secure" if secure else ""
    return f"{THEME_COOKIE}={theme}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{ending}"


def place_of(scope: Scope) -> str:
    """Return where a page that was asked for stands, to come back to it; the first page for what
    only a form leads to."""
    if scope["method"] not in ("GET", "HEAD"):
        return "/"
    query = bytes(scope["query_string"]).decode("latin-1")
    return way_back(scope["path"] + (f"?{query}" if query else ""))


def way_back(path: str) -> str:
    """Return a path if it is one of this site, else that of the first page."""
    return path if _PATH.fullmatch(path) else "/"
