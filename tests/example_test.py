"""Tests made to be copied: one in virtual time, one of a real process, one of a property.

    scripts/test tests/example_test.py                  runs them all
    scripts/test tests/example_test.py -k property -s   runs one, and shows what it prints

Where a test of your own belongs, and how to look into one that fails, is said in CONTRIBUTING.md.
Copy the test that is nearest to what you want, and leave the comments here.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.framework.network import address_of
from tests.framework.processes import NodeHome, NodeProcess
from tests.framework.simulation.simnet import EPOCH_S, SimNet
from unchained.node.crypto.merkle import merkle_root, prove, verify
from unchained.node.rpc.client.client import Client, Endpoint


# The name says what holds, so that a failure reads as a sentence. An `async def` needs no marker:
# it runs under a clock that jumps ahead whenever all tasks wait, so hours take no time, and tasks
# are scheduled from a seed, so that a failure can be repeated. What `world` gives is a network of
# whole nodes in this process; an error in the log of any of them fails the test.
async def test_two_nodes_agree_on_one_chain(world: SimNet) -> None:
    first, second = await world.grow(2)

    # Wait for a condition, never for a time: `until` fails by its name when time is up.
    await world.until(lambda: first.height >= 3, "three anchors high", within_s=20 * EPOCH_S)

    # Cut the line between them: each goes on by itself, and they disagree.
    world.part([first], [second])
    await world.until(lambda: len(world.tips()) == 2, "of two minds", within_s=20 * EPOCH_S)

    world.weather.heal()
    await world.agree(within_s=4 * EPOCH_S)
    assert first.tip == second.tip

    # What nobody has seen is worth a line, too: neither has blamed the other.
    for node in (first, second):
        assert node.network.statistics().peers.bans == 0


# A real `unchained-node` in a process of its own, from a fixture: it has ended when the test has,
# whatever happens. When the test fails its files are kept, and where they are is printed with the
# end of its log. A test like this takes seconds: write one only for what needs a process. One that
# waits for sockets or processes itself, in an `async def`, is marked `@pytest.mark.real_time`.
def test_a_node_mines_and_stops_when_asked(home: NodeHome, node_process: NodeProcess) -> None:
    client = Client(Endpoint.of(home.data_dir()))

    mined = client.call("mine.generate", {"anchors": 2, "address": address_of(1)})

    assert client.call("chain.tip")["height"] == 2
    # Wait for an event of the log, never for time to pass.
    event = node_process.wait_event("anchor.connected", lambda event: event["height"] == 2)
    assert event["id"] == mined["anchors"][-1]
    assert node_process.stop() == 0
    assert node_process.errors == []


# Hypothesis makes up the arguments, some hundred times, and looks for the smallest that fails. A
# property is something that holds for all of them: what one function does another undoes, two ways
# to the same thing agree, what is changed is noticed.
@given(ids=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), data=st.data())
def test_a_proof_of_the_property_of_being_in_a_list_holds_for_that_id_alone(
    ids: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(ids) - 1))
    proof = prove(ids, index)
    root = merkle_root(ids)

    assert verify(proof, ids[index], root)
    other = data.draw(st.binary(min_size=32, max_size=32).filter(lambda other: other != ids[index]))
    assert not verify(proof, other, root)
