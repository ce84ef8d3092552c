"""What is remembered of transfers, and for how long."""

from __future__ import annotations

import msgspec
import pytest

from tests.framework.forge import Forge
from unchained.node.chain import transfer_memory
from unchained.node.chain.transfer_memory import TransferMemory
from unchained.node.consensus.errors import BadVersionError
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import ValidatedTransfer, validate_transfer
from unchained.node.primitives.transfer import SizedTransfer


def made(count: int) -> list[ValidatedTransfer]:
    """Return transfers of different coins, all of one length."""
    forge = Forge()
    coins = [forge.anchor(forge.genesis) for _ in range(count)]
    transfers = [forge.transfer([(coin.id, 0)], [(REG.subsidy, 1)]) for coin in coins]
    found = [validate_transfer(transfer.raw, REG) for transfer in transfers]
    assert all(one.is_good for one in found)
    assert len({one.length for one in found}) == 1
    return found


def sized_of(found: ValidatedTransfer) -> SizedTransfer:
    assert found.sized is not None
    return found.sized


def test_the_decoded_go_before_their_verdicts_the_oldest_first() -> None:
    found = made(3)
    wids = [sized_of(one).wid for one in found]
    memory = TransferMemory(decoded_bytes_max=2 * found[0].length)
    for wid, one in zip(wids, found, strict=True):
        memory.remember(wid, one)
    assert [memory.proven(wid) for wid in wids] == [None, found[1].proven(), found[2].proven()]
    assert all(memory.verdict(wid) == one.verdict for wid, one in zip(wids, found, strict=True))


def test_what_is_remembered_again_takes_no_more_room() -> None:
    first, second = made(2)
    memory = TransferMemory(decoded_bytes_max=2 * first.length)
    for one in (first, second, second, second):
        memory.remember(sized_of(one).wid, one)
    assert memory.proven(sized_of(first).wid) == first.proven()


def test_a_byte_too_few_is_room_for_one_less() -> None:
    first, second = made(2)
    memory = TransferMemory(decoded_bytes_max=2 * first.length - 1)
    for one in (first, second):
        memory.remember(sized_of(one).wid, one)
    assert memory.proven(sized_of(first).wid) is None
    assert memory.proven(sized_of(second).wid) == second.proven()


def test_as_much_is_remembered_as_is_written_down() -> None:
    assert transfer_memory.VERDICTS_REMEMBERED_MAX == 65_536
    assert 2 * REG.max_body_size == transfer_memory.DECODED_BYTES_MAX


def test_verdicts_are_bounded_too() -> None:
    found = made(3)
    memory = TransferMemory(verdicts_max=2)
    for one in found:
        memory.remember(sized_of(one).wid, one)
    assert memory.verdict(sized_of(found[0]).wid) is None
    assert memory.verdict(sized_of(found[1]).wid) is not None


def test_what_breaks_a_rule_is_never_proven() -> None:
    (good,) = made(1)
    raw = msgspec.structs.replace(sized_of(good).transfer, version=2).to_bytes()
    broken = validate_transfer(raw, REG)
    memory = TransferMemory()
    memory.remember(sized_of(broken).wid, broken)
    assert memory.proven(sized_of(broken).wid) is None
    verdict = memory.verdict(sized_of(broken).wid)
    assert verdict is not None
    with pytest.raises(BadVersionError):
        verdict.raise_alone()
    with pytest.raises(BadVersionError):
        broken.proven()
