from __future__ import annotations

from unchained.node.transport.address_groups import (
    ONION_VISITOR,
    address_group,
    host_group,
    is_dialable,
    is_loopback,
    is_public,
    is_shared,
    is_stand_in,
    network_group,
    stand_in,
)
from unchained.node.transport.contract import PeerId


def test_what_stands_for_a_name_is_limited_and_banned_like_a_host_of_the_internet() -> None:
    names = [f"{number}.onion" for number in range(2_000)]
    literals = [stand_in(name) for name in names]
    assert len(set(literals)) == len(names)
    for ip in literals:
        assert is_stand_in(ip)
        assert is_public(ip)
        assert is_dialable(ip)
        assert not is_loopback(ip)
    # Each is a host of its own; all of them are few networks.
    assert len({host_group(ip) for ip in literals}) == len(names)
    assert len({address_group(ip) for ip in literals}) == len(names)
    assert 200 < len({network_group(ip) for ip in literals}) <= 256


def test_visitors_of_an_onion_service_are_a_network_of_the_internet_and_banned_one_by_one() -> None:
    assert is_stand_in(ONION_VISITOR)
    assert is_public(ONION_VISITOR)
    assert not is_loopback(ONION_VISITOR)
    assert [is_shared(ip) for ip in (ONION_VISITOR, "127.0.0.1", "8.8.8.8")] == [True, True, False]
    assert host_group(ONION_VISITOR) == ""
    one, other = (host_group(ONION_VISITOR, PeerId(name)) for name in ("one", "other"))
    assert one == "onion/one"
    assert other == "onion/other"


def test_a_name_is_one_host_however_it_is_written() -> None:
    assert stand_in("A.Example.") == stand_in("a.example")
    assert not is_stand_in("2001:db8::1")
    assert not is_stand_in("8.8.8.8")
    assert not is_public("fd00::1")
