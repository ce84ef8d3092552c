"""The target of the next coins: coin-scheduled ASERT, in integers (Protocol §7).

After aserti3-2d. N coins after the first anchor's children a chain should be N * T / K ms old; the
target doubles with every TAU that it is behind and halves with every TAU that it is ahead.
"""

from __future__ import annotations

from typing import Final

from unchained.node.consensus.params import Network

_RADIX_BITS: Final = 16
_MAX_SHIFT: Final = 255


def child_target(network: Network, *, anchor_height: int, elapsed_ms: int, n: int) -> int:
    """Return the target of the children of an anchor A.

    With R the anchor of height 1 of A's chain, `elapsed_ms` is A.time - R.time and `n` (N) is the
    coins counted through A less those through R. Neither matters for children of genesis.
    """
    # Protocol §7: "Children of genesis have target0, and so has everything where TAU is 0."
    if anchor_height == 0 or network.tau_ms == 0:
        return network.target0
    k = network.coins_per_epoch
    # Protocol §7: "e = (((A.time - R.time) * K - N * T) << 16) // (K * TAU)"
    exponent = ((elapsed_ms * k - n * network.epoch_ms) << _RADIX_BITS) // (k * network.tau_ms)
    shift, fraction = exponent >> _RADIX_BITS, exponent & 0xFFFF
    # Protocol §7: "s > 255: MAX_TARGET;  s < -255: 1"
    if shift > _MAX_SHIFT:
        return network.max_target
    if shift < -_MAX_SHIFT:
        return 1
    # Protocol §7: "t = target0 * factor;  t = t << s if s >= 0 else t >> -s"
    target = network.target0 * _two_to_the(fraction)
    target = target << shift if shift >= 0 else target >> -shift
    # Protocol §7: "target = clamp(t >> 16, 1, MAX_TARGET)"
    return min(max(target >> _RADIX_BITS, 1), network.max_target)


def _two_to_the(fraction: int) -> int:
    """Return 65,536 * 2**(fraction / 65,536) by aserti3-2d's cubic, for 0 <= fraction < 65,536."""
    cubic = 195_766_423_245_049 * fraction + 971_821_376 * fraction**2 + 5_127 * fraction**3
    return 65_536 + ((cubic + 2**47) >> 48)
