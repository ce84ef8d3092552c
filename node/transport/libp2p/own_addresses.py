"""The addresses that a node gives to others: where it listens, what leads there from outside."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from unchained.node.transport.address import Address
from unchained.node.transport.contract import PeerId
from unchained.node.transport.libp2p.listener import announced, outer


class OwnAddresses:
    """None before `bind`, nor after `release`."""

    def __init__(self, peer: PeerId, fixed: Sequence[str], *, is_hidden: bool) -> None:
        """`fixed` are the operator's own, which go instead of all others if there are any;
        `is_hidden`: no outer address is told."""
        self._peer = peer
        self._fixed = tuple(fixed)
        self._is_hidden = is_hidden
        self._outer: dict[str, list[str]] = {}
        """What leads here from outside, by the family of the address: many have both."""
        self.bound: tuple[Address, ...] = ()
        """The places that are listened on."""
        self.texts: tuple[str, ...] = ()

    def bind(self, bound: Sequence[Address]) -> None:
        """Note what is listened on."""
        self.bound = tuple(bound)
        self.texts = self._fixed or tuple(announced(self.bound, self._peer))

    def release(self) -> None:
        """Note that nobody listens any more."""
        self.bound = self.texts = ()
        self._outer.clear()

    def set_outer(self, ip: str) -> bool:
        """Note that a public address leads here; return whether that is news."""
        if self._fixed or self._is_hidden:
            return False
        leading = outer(self.bound, ip, self._peer)
        if set(leading) <= set(self.texts):
            return False
        self._outer[Address.of_ip(ip, 0).kind] = leading
        own = announced(self.bound, self._peer)
        self.texts = tuple(dict.fromkeys(chain(own, *self._outer.values())))
        return True
