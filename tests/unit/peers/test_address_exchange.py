"""What is told to peers of others is what they may be told."""

from __future__ import annotations

from tests.unit.peers.test_manager import Peer, a_world
from unchained.node.peers.address_exchange import fit_to_send
from unchained.node.transport.address import Address
from unchained.node.transport.contract import PeerId
from unchained.node.wire.limits import MAX_ADDRESS
from unchained.node.wire.messages import ADDRESSES_EXCHANGE

PEER = PeerId("12D3KooW" + "A" * 44)


def announced(name: str) -> str:
    return str(Address.parse(f"/dns/{name}/tcp/4031").with_peer(PEER))


def test_an_address_longer_than_an_answer_holds_is_not_told() -> None:
    name = ".".join(["a" * 60] * 3) + "."
    longest = announced(name + "b" * (MAX_ADDRESS - len(announced(name + "b")) + 1))
    assert len(longest) == MAX_ADDRESS
    longer = announced(name + "b" * (MAX_ADDRESS - len(announced(name + "b")) + 2))
    found = fit_to_send([longer, longest], None)
    assert found == [longest]
    raw = (longest.encode(),)
    assert ADDRESSES_EXCHANGE.decode_answer(ADDRESSES_EXCHANGE.answer(raw)) == raw


async def test_what_is_known_of_a_peer_that_was_asked_goes_with_it() -> None:
    async with a_world() as world:
        (teller,) = await world.peers("20.1.0.1")
        node = await Peer(world, "30.1.0.1", bootstrap=(teller.transport.address,)).start()
        exchange = node.manager._address_exchange
        await world.until(lambda: exchange._asked, 30)
        await teller.stop()
        await world.until(lambda: not node.dialled(), 30)
        assert exchange._asked == {}
