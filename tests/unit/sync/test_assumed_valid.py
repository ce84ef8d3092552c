from __future__ import annotations

from unchained.node.consensus.params import NETWORKS
from unchained.node.sync.assumed_valid import ASSUMED_VALID, assumed_valid


def test_the_operator_comes_before_the_release_and_verify_all_before_both() -> None:
    named = "ab" * 32
    for network in NETWORKS:
        assert assumed_valid(network, "", verify_all=False) == ASSUMED_VALID.get(network)
        assert assumed_valid(network, named, verify_all=False) == bytes.fromhex(named)
        assert assumed_valid(network, named, verify_all=True) is None


def test_only_known_networks_have_an_anchor_to_assume() -> None:
    assert set(ASSUMED_VALID) <= set(NETWORKS)
    assert all(len(anchor) == 32 for anchor in ASSUMED_VALID.values())
