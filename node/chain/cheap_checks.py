"""The cheap checks of what bodies list, before any Argon2id of it (Protocol §5.2): for all ways by
which anchors come many at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unchained.node.chain.results import Package
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.listed_coins import check_listed
from unchained.node.consensus.params import Network


def split_fitting(
    packages: Sequence[Package], targets: Mapping[int, int], network: Network
) -> tuple[Sequence[Package], ProtocolError | None]:
    """Return those of some anchors that follow one another which come before the first that breaks
    a rule by the headers of its chain alone, whose proofs are worth a look; and that rule.
    `targets`: of the anchors below, by height, as far as they are known."""
    known = dict(targets)
    for at, package in enumerate(packages):
        anchor = package.anchor
        if at and anchor.parent != packages[at - 1].anchor.id:
            known = {}
        known[anchor.height] = anchor.header.target
        try:
            # Protocol §5.2: "all cheap checks before any Argon2"
            check_listed(anchor, package.body, package.coins, known, network)
        except ProtocolError as error:
            return packages[:at], error
    return packages, None
