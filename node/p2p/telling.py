"""Addresses that peers tell each other: which are worth keeping, and which to tell whom."""

from __future__ import annotations

from collections.abc import Sequence

from unchained.node.p2p.address import Address
from unchained.node.p2p.groups import is_dialable, is_public
from unchained.node.p2p.transport import BadAddress, PeerId


def is_worth_keeping(text: str, own: PeerId, told_by_ip: str) -> bool:
    """Tell whether an address may mean another node.

    What a stranger of the internet says of a private network would have us knock at doors of our
    own."""
    try:
        address = Address.parse(text)
    except BadAddress:
        return False
    return (
        not address.is_name
        and address.peer != own
        and is_dialable(address.host)
        and (is_public(address.host) or not is_public(told_by_ip))
    )


def fit_to_tell(texts: Sequence[str], asked_by_ip: str | None) -> list[str]:
    """Return the addresses that mean something to whoever asks, each once: those of a private
    network mean nothing outside it."""
    public_only = asked_by_ip is None or is_public(asked_by_ip)
    return [text for text in dict.fromkeys(texts) if not public_only or _is_public(text)]


def _is_public(text: str) -> bool:
    kind, host = text.split("/")[1:3]
    return kind.startswith("dns") or is_public(host)
