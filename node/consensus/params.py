"""The constants of the four networks (Protocol §10). Every consensus constant is here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from unchained.node.primitives.codec import encode

LISTED_COINS_PER_K: Final = 16
"""An anchor lists at most so many times K coins as fresh, and as many as uncles (Protocol §5.2)."""

LISTED_TRANSFER_BYTES: Final = 1_024
"""An anchor lists at most one transfer for so many bytes of the body limit (Protocol §5.2)."""


class Network(msgspec.Struct, frozen=True):
    """One column of the table of Protocol §10. Changing any value makes another network."""

    name: str
    """What a user calls the network."""

    chain_id: int
    """In every coin header, transfer and paycode, u32."""

    birth_ms: int
    """Genesis' time, milliseconds since the Unix epoch."""

    epoch_ms: int
    """T: mean time from one anchor to the next, milliseconds."""

    coins_per_epoch: int
    """K: coins mined per epoch on average; a coin's id is an anchor's with probability 1/K."""

    mem_kib: int
    """MEM: memory of one Argon2id, KiB."""

    tau_ms: int
    """TAU: lag of the chain at which the target has changed by a factor of 2, milliseconds.
    0: no retarget, every target is `target0`."""

    target0: int
    """Target of the children of genesis."""

    max_target: int
    """MAX_TARGET: the easiest target."""

    future_limit_ms: int
    """FUTURE_LIMIT: how far a candidate's time may be ahead of the local clock, milliseconds."""

    window: int
    """W: anchors after its own height at which a coin can still be included."""

    maturity: int
    """MATURITY: anchors after its inclusion from which on a minted coin can be spent."""

    max_reorg: int
    """MAX_REORG: anchors that a node undoes by itself; votes for as deep a fork are kept."""

    max_body_size: int
    """Bytes in one body: of encoded transfers, and of their sizes (Protocol §5.2, §5.3)."""

    subsidy: int
    """SUBSIDY: grains that an anchor or a fresh coin mints."""

    address_prefix: str
    """Human-readable part of the network's addresses (Protocol §9); no part of the column."""

    @property
    def max_listed(self) -> int:
        """Most fresh coins, and most uncles, of one body (Protocol §5.2)."""
        return LISTED_COINS_PER_K * self.coins_per_epoch

    @property
    def max_transfers(self) -> int:
        """Most transfers of one body (Protocol §5.2)."""
        return self.max_body_size // LISTED_TRANSFER_BYTES

    def grade_target(self, target: int) -> int:
        """Return the greatest id of anchor grade under a target (Protocol §3.2)."""
        return target // self.coins_per_epoch

    def column_bytes(self) -> bytes:
        """Return the encoding that genesis' parent is the hash of (Protocol §10)."""
        return encode(
            (
                self.name.encode(),
                self.chain_id,
                self.birth_ms,
                self.epoch_ms,
                self.coins_per_epoch,
                self.mem_kib,
                self.tau_ms,
                self.target0.to_bytes(32, "big"),
                self.max_target.to_bytes(32, "big"),
                self.future_limit_ms,
                self.window,
                self.maturity,
                self.max_reorg,
                self.max_body_size,
                self.subsidy,
            )
        )


MAIN: Final = Network(
    name="main",
    chain_id=0x554E4301,
    birth_ms=1_795_219_200_000,
    epoch_ms=120_000,
    coins_per_epoch=16,
    mem_kib=16_384,
    tau_ms=7_200_000,
    target0=2**244,
    max_target=2**246,
    future_limit_ms=120_000,
    window=16,
    maturity=8,
    max_reorg=720,
    max_body_size=4_194_304,
    subsidy=10**8,
    address_prefix="unc",
)
"""The network whose coins are meant to last."""

TEST: Final = Network(
    name="test",
    chain_id=0x554E4302,
    birth_ms=1_795_219_200_000,
    epoch_ms=60_000,
    coins_per_epoch=8,
    mem_kib=16_384,
    tau_ms=3_600_000,
    target0=2**244,
    max_target=2**246,
    future_limit_ms=60_000,
    window=16,
    maturity=8,
    max_reorg=720,
    max_body_size=4_194_304,
    subsidy=10**8,
    address_prefix="tunc",
)
"""The public network for trying things out."""

LOCAL: Final = Network(
    name="local",
    chain_id=0x554E4303,
    birth_ms=1_795_219_200_000,
    epoch_ms=8_000,
    coins_per_epoch=4,
    mem_kib=1_024,
    tau_ms=120_000,
    target0=2**243,
    max_target=2**250,
    future_limit_ms=8_000,
    window=16,
    maturity=4,
    max_reorg=720,
    max_body_size=4_194_304,
    subsidy=10**8,
    address_prefix="lunc",
)
"""One machine or a few, mining at once."""

REG: Final = Network(
    name="reg",
    chain_id=0x554E4304,
    birth_ms=1_795_219_200_000,
    epoch_ms=1_000,
    coins_per_epoch=4,
    mem_kib=8,
    tau_ms=0,
    target0=2**254,
    max_target=2**254,
    future_limit_ms=7_200_000,
    window=16,
    maturity=1,
    max_reorg=720,
    max_body_size=4_194_304,
    subsidy=10**8,
    address_prefix="runc",
)
"""For tests: mines on demand, no retarget."""

NETWORKS: Final[Mapping[str, Network]] = MappingProxyType(
    {network.name: network for network in (MAIN, TEST, LOCAL, REG)}
)
"""The networks by name."""


def network_for(chain_id: int, wanted: Network | None) -> Network | None:
    """Return the network of a chain id, None for one that is not known here, or that is another
    than the one that is `wanted`, if one is."""
    found = next((it for it in NETWORKS.values() if it.chain_id == chain_id), None)
    return found if wanted in (None, found) else None


def other_network(what: str, chain_id: int, wanted: Network | None) -> str:
    """Return what is wrong with what `network_for` finds no network of."""
    found = network_for(chain_id, None)
    name = f"chain {chain_id:#x}, which this program does not know"
    name = name if found is None else f"network {found.name}"
    return f"{what} is of {name}" + ("" if wanted is None else f", expected {wanted.name}")
