"""Transfers verified several at a time: each as if it were by itself, and none left out."""

from __future__ import annotations

from functools import cache
from itertools import count

import msgspec
import pytest

from tests.framework.forge import BACKEND, Forge, of
from unchained.node.base.runner import InlineRunner
from unchained.node.chain import verifier
from unchained.node.chain.verifier import DECODED_AT_ONCE, Verifier
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import ValidatedTransfer, validate_transfer
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Wid

COIN = CoinId(b"c" * 32)


@cache
def kinds() -> tuple[SizedTransfer, ...]:
    """Return a good transfer, one without and one with another's signature, one of no version."""
    forge = Forge(REG)
    good = forge.transfer([(COIN, 0)], [(1_000, 1)])
    other = forge.transfer([(COIN, 0)], [(1_000, 1)], fee=5)
    return (
        good,
        forge.transfer([(COIN, 0)], [(1_000, 1)], sign=False),
        of(msgspec.structs.replace(other.transfer, signatures=good.transfer.signatures)),
        forge.transfer([(COIN, 0)], [(1_000, 1)], version=2),
    )


class Ticks:
    """A clock that goes on by a second whenever somebody looks."""

    def __init__(self) -> None:
        self.perf_counter = count(1000).__next__


def verdict_of(found: ValidatedTransfer) -> list[str]:
    errors = (found.verdict.alone, found.verdict.witness)
    return [error.name for error in errors if error is not None]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("number", [1, DECODED_AT_ONCE, 2 * DECODED_AT_ONCE + 1])
async def test_each_is_found_what_it_is_by_itself(number: int, threads: int) -> None:
    work = Verifier(REG, InlineRunner(), threads, BACKEND)
    # As bytes and decoded; the bytes of one more are no transfer.
    made = [kinds()[at % 4].raw if at % 5 else kinds()[at % 4] for at in range(number - 1)]
    asked = [(Wid(at.to_bytes(32, "big")), one) for at, one in enumerate([b"\x00", *made])]
    found = await work.validate(asked)
    assert list(found) == [wid for at in range(threads) for wid, _ in asked[at::threads]]
    for wid, one in asked:
        alone = validate_transfer(one if isinstance(one, bytes) else one.raw, REG, wid)
        assert verdict_of(found[wid]) == verdict_of(alone)
        assert found[wid].length == alone.length
        assert found[wid].sized == (alone.sized if isinstance(one, bytes) else one)
    assert work.transfers == number
    assert work.transfer_latency.statistics().count == number
    assert work.in_hand == 0


@pytest.mark.parametrize(("number", "groups"), [(64, 2), (65, 3)])
async def test_what_they_take_is_shared_out_among_those_that_are_decoded_at_once(
    number: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "time", Ticks())
    work = Verifier(REG, InlineRunner(), 1, BACKEND)
    await work.validate([(Wid(at.to_bytes(32, "big")), kinds()[0]) for at in range(number)])
    noted = work.transfer_latency.statistics()
    # A second for each signature, and one for all that comes before those of a group.
    assert noted.seconds == pytest.approx(number + groups)
