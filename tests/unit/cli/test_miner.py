"""What the miner for a node elsewhere believes of what it is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from unchained.miner.remote import NodeUnavailableError
from unchained.node.cli.miner import RemoteTemplate, RpcNode, network_of
from unchained.node.consensus.params import LOCAL, NETWORKS, Network
from unchained.node.crypto.addresses import PayeeError, address_lock, encode_address
from unchained.node.primitives.coin import CoinHeader
from unchained.node.primitives.types import CoinId, KeyHash, Lock

MINE = KeyHash(b"\1" * 32)
OURS = address_lock(MINE)


class Answering(RpcNode):
    """A node that answers what a test says."""

    def __init__(self, address: str | None, answer: RemoteTemplate) -> None:
        super().__init__("http://127.0.0.1:1", None, address)
        self.answer = answer

    def _client(self) -> Any:
        return self

    async def call(self, *_: object, **__: object) -> RemoteTemplate:
        return self.answer


def answer(network: Network = LOCAL, lock: Lock = OURS, **other: Any) -> RemoteTemplate:
    header = CoinHeader(
        network.chain_id, 1, CoinId(bytes(32)), 1, 2, 3, 2**250, lock, bytes(32), 0
    ).to_bytes()
    good = RemoteTemplate("00" * 32, header.hex(), f"{2**250:064x}", network.mem_kib)
    return msgspec.structs.replace(good, **other)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=str)
@pytest.mark.parametrize("named", [True, False])
async def test_work_of_each_network_is_taken(network: Network, named: bool) -> None:
    address = encode_address(network, MINE) if named else None
    work = await Answering(address, answer(network)).template(None)
    assert CoinHeader.from_bytes(work.header).lock == OURS
    assert work.mem_kib == network.mem_kib


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (answer(lock=Lock(b"\xee" * 32)), "pays another address"),
        (answer(NETWORKS["main"]), "of network main, the address is of local"),
        (answer(mem_kib=16 << 20), "16777216 KiB of memory, network local for 1024"),
        (answer(header="00" * 10), "header of 10 bytes, expected 166"),
        (answer(header="00" * 166), "chain 0x00000000, which is unknown"),
        (answer(header="no hex"), "non-hexadecimal"),
        (answer(target="ff" * 32), "a target that the header's own does not allow"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_node_is_not_believed_what_can_be_checked(wrong: RemoteTemplate, why: str) -> None:
    with pytest.raises(NodeUnavailableError, match=why) as caught:
        await Answering(encode_address(LOCAL, MINE), wrong).template(None)
    assert "\n" not in str(caught.value)


async def test_without_an_address_the_nodes_own_is_paid() -> None:
    work = await Answering(None, answer(lock=Lock(b"\xee" * 32))).template(None)
    assert CoinHeader.from_bytes(work.header).lock == b"\xee" * 32


@pytest.mark.parametrize("address", ["nonsense", "xunc1qqqq", encode_address(LOCAL, MINE)[:-1]])
def test_an_address_of_no_network_is_refused_at_once(address: str) -> None:
    with pytest.raises(PayeeError):
        network_of(address)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (encode_address(LOCAL, MINE)[:-1] + "b", "character 64 of the address is 'b'"),
        (encode_address(LOCAL, MINE)[:-2] + "qp", r"checksum is wrong[^;]*$"),
        ("vunc1" + encode_address(LOCAL, MINE)[5:], "theirs begin with unc1, tunc1, lunc1, runc1"),
    ],
)
def test_what_is_wrong_with_an_address_is_told(address: str, why: str) -> None:
    with pytest.raises(PayeeError, match=why):
        network_of(address)
