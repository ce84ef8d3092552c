"""Transfers validated by their bytes (§8.3): which stage names its rule, and what is returned."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import msgspec
import pytest

from tests.framework.forge import Forge, of
from tests.framework.rules import rule_broken
from unchained.node.consensus.errors import BadSignatureError
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.consensus.transfers import TransferVerdict, validate_transfer
from unchained.node.primitives.transfer import SizedTransfer, wid_of
from unchained.node.primitives.types import CoinId, Wid

COIN = CoinId(b"c" * 32)


@cache
def forge() -> Forge:
    return Forge(REG)


@cache
def good() -> SizedTransfer:
    return forge().transfer([(COIN, 0)], [(1_000, 1)])


def names(verdict: TransferVerdict) -> tuple[str, str]:
    """Return the rules of a verdict, empty for none."""
    return tuple(  # type: ignore[return-value]
        "" if error is None else error.name for error in (verdict.alone, verdict.witness)
    )


def unsigned(**fields: object) -> SizedTransfer:
    return forge().transfer([(COIN, 0)], [(1_000, 1)], sign=False, **fields)


def badly_signed(**fields: object) -> SizedTransfer:
    """Return a transfer with the signature of another one."""
    mine = forge().transfer([(COIN, 0)], [(1_000, 1)], **fields)
    return of(msgspec.structs.replace(mine.transfer, signatures=good().transfer.signatures))


def test_a_transfer_that_breaks_nothing() -> None:
    found = validate_transfer(good().raw, REG)
    assert found.sized == good()
    assert found.verdict == TransferVerdict(None, None)
    assert found.length == len(good().raw)
    assert found.is_good
    assert found.proven().sized == good()


def test_the_wid_is_taken_from_who_knows_it() -> None:
    known = Wid(b"w" * 32)
    for wid, found in ((None, wid_of(good().raw)), (known, known)):
        sized = validate_transfer(good().raw, REG, wid).sized
        assert sized is not None
        assert sized.wid == found


@pytest.mark.parametrize(
    ("make", "alone", "witness"),
    [
        (lambda: badly_signed(fee=5), "", "BAD_SIGNATURE"),
        (unsigned, "", "CONDITION_UNMET"),
        # The witness of such is not looked at.
        (lambda: unsigned(version=2), "BAD_VERSION", ""),
        (lambda: badly_signed(fee=5, version=2), "BAD_VERSION", ""),
    ],
)
def test_the_first_rule_of_each_stage(
    make: Callable[[], SizedTransfer], alone: str, witness: str
) -> None:
    sized = make()
    found = validate_transfer(sized.raw, REG)
    verdict = found.verdict
    assert found.sized == sized
    assert not found.is_good
    assert rule_broken(found.proven) == (alone or witness)
    assert names(verdict) == (alone, witness)
    if alone:
        assert rule_broken(verdict.raise_alone) == alone
        verdict.raise_witness()
    else:
        verdict.raise_alone()
        assert rule_broken(verdict.raise_witness) == witness


def test_what_does_not_decode_is_no_transfer() -> None:
    for raw, rule in ((b"no transfer", "NON_CANONICAL"), (bytes(262_145), "TRANSFER_TOO_LARGE")):
        found = validate_transfer(raw, REG)
        assert found.sized is None
        assert found.length == len(raw)
        assert names(found.verdict) == (rule, "")
        assert rule_broken(found.verdict.raise_alone) == rule
        assert rule_broken(found.proven) == rule


def test_a_transfer_is_of_one_network() -> None:
    verdict = validate_transfer(good().raw, LOCAL).verdict
    assert names(verdict) == ("WRONG_CHAIN", "")


def test_an_error_that_is_raised_again_does_not_grow() -> None:
    verdict = validate_transfer(badly_signed(fee=5).raw, REG).verdict
    raised = []
    for _ in range(2):
        with pytest.raises(BadSignatureError) as caught:
            verdict.raise_witness()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert verdict.witness is not None
    assert verdict.witness.__traceback__ is None
    assert str(raised[0]) == str(raised[1]) == str(verdict.witness)
