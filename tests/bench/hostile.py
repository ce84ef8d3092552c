"""What an honest peer feels while another attacks: the 95th percentile of its requests' times; and
what the node itself takes meanwhile, of memory and of a core. Under a flood of connections it is
what honest newcomers feel: how long their dials take.

A node of `reg`, an attacker that begins again with a new identity whenever it is banned, and an
honest peer in a process of its own, which was there before and asks for headers and coins. The
reference is the same without the attacker, in turn with it; the goal of each attack is twice that.
It all takes place in a network of its own, where peers have whatever address they like, so that
each attack comes from the networks that it takes. What an attack on memory may cost of it is
bounded by what it sends or asks for: that which grows with it would fill the node in time.
All of it shares one machine. Attackers, which have machines of their own in life, are run at the
lowest priority, and take the cores that the node and its honest peers leave; where the node is kept
from a core for long all the same (`…_waited`), its peers wait for the machine.
``scripts/bench hostile:NAME`` measures one attack.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.bench._result import result
from tests.bench.network_idle import cpu_s
from tests.framework import floods
from tests.framework import siege as attacks
from tests.framework.network import network
from tests.framework.own_network import inside
from tests.framework.p2p_attacker import RefusedError
from tests.framework.p2p_process import ROOT
from tests.framework.siege import Siege
from unchained.node.transport.address import Address
from unchained.node.transport.contract import NotRunningError
from unchained.node.transport.libp2p.handshakes import HANDSHAKE_S
from unchained.node.transport.libp2p.streams import StreamBrokenError

LOWEST_PRIORITY = 19
SECONDS = 4.0
RUNS = 3
MOST = 2.0
"""Times the normal latency that an attack may cost."""

MORE_MB_MAX = 100.0
"""Resident memory that an attack may cost, however much it sends or asks for."""
KEPT_OF_SENT_MAX = 0.2
"""What may be kept of each byte that is sent or asked for, where that is what an attack is about,
besides `ANYWAY_MB`."""
ANYWAY_MB = {
    "ids_of_no_use": 12.0,
    "long_ids": 12.0,
    "windows_filled": 24.0,
    "answers_not_taken": 24.0,
    "crowd_takes_no_answers": 48.0,
}
"""What they may cost however little is sent: what a node may hold of so many peers, and heaps that
grow by themselves."""
DIAL_MS_MAX = 1e3 * HANDSHAKE_S / 2
"""What a dial may take, at a round trip of 0.3 s, under a flood of connections."""
FLOOD_BEFORE_DIALS_S = 1.0
CORE_PERCENT_MAX = 60.0
"""Share of a core that a node may take under an attack, the honest peer's requests included."""

TOLD_BY_THE_LOG = ("headers_without_bodies", "stale_fork", "claimed_chain")
"""Attacks that are over when the log, at its level `debug`, says that a chain is not followed."""

Attack = Callable[[Siege], Awaitable[object]]
Measure = Callable[[float], list[float]]
"""Asks for so many seconds, and returns how long each answer took, in seconds."""


async def hold_silent_sockets(siege: Siege) -> None:
    async with attacks.silent_sockets(siege):
        await trio.sleep(1)


async def claim_chains(siege: Siege) -> None:
    async with siege.peer(connect=False) as peer:
        await attacks.claim_a_chain(siege, peer)


async def send_future_coins(siege: Siege) -> None:
    await attacks.future_coins(siege, 100)


ATTACKS: dict[str, Attack] = {
    "garbage_protobuf": attacks.garbage_protobuf,
    "garbage_streams": attacks.garbage_streams,
    "garbage_requests": attacks.garbage_requests,
    "forged_proofs": attacks.forged_proofs,
    "duplicates": attacks.duplicates,
    "oversized_frame": attacks.oversized_frame,
    "window_overrun": attacks.window_overrun,
    "silent_sockets": hold_silent_sockets,
    "headers_without_bodies": attacks.headers_without_bodies,
    "announced_without_bodies": attacks.announced_without_bodies,
    "stale_fork": attacks.stale_fork,
    "claimed_chain": claim_chains,
    "future_coins": send_future_coins,
    "past_coins": attacks.past_coins,
    "addresses": attacks.addresses_without_end,
    "ids_of_no_use": floods.ids_of_no_use,
    "long_ids": floods.long_ids,
    "empty_ids": floods.empty_ids,
    "grafts_in_back_off": floods.grafts_in_back_off,
    "unknown_topics": floods.unknown_topics,
    "many_gossipers": floods.many_gossipers,
    "answers_not_taken": floods.answers_not_taken,
    "crowd_takes_no_answers": floods.crowd_takes_no_answers,
    "crowd_pings": floods.crowd_pings,
    "crowd_reconnects": floods.crowd_reconnects,
    "evictions": floods.evictions,
    "frames_of_one_byte": floods.frames_of_one_byte,
    "windows_filled": floods.windows_filled,
}
"""Attacks under which an honest peer asks."""

CALLS: dict[str, Attack] = {
    "calls_without_end": floods.calls_without_end,
    "calls_of_one_network": floods.calls_of_one_network,
    "calls_of_many_networks": floods.calls_of_many_networks,
    "handshakes_without_end": floods.handshakes_without_end,
    "handshakes_of_many_networks": floods.handshakes_of_many_networks,
    "handshakes_of_one_ipv6_network": floods.handshakes_of_one_ipv6_network,
}
"""Attacks under which honest peers dial."""

SECONDS_OF = {"ids_of_no_use": 20.0, "answers_not_taken": 10.0, "crowd_takes_no_answers": 10.0}
"""Seconds of an attack whose harm is a matter of time, where they are not `SECONDS`."""


PARTS = (*ATTACKS, *CALLS)
"""What may be measured by itself."""


def run(*only: str) -> list[dict[str, object]]:
    """Measure without an attacker and under an attack in turn, for each attack, or for some, in a
    network of its own: it needs root, or namespaces that users may make."""
    command = inside([sys.executable, "-m", "tests.bench.hostile", *only])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def measured(*only: str) -> list[dict[str, object]]:
    """Do so in the network that this program is in."""
    names = only or PARTS
    with network() as net:
        siege = Siege(net, floods.PLACE, floods.PLACE_V6)
        place = f"{Address.of_ip(floods.PLACE, siege.public_port)}/p2p/{siege.victim.id}"
        with (
            honest("p2p_peer", siege.victim.full_address) as ask,
            honest("p2p_dialler", place) as dial,
        ):
            # Of this process, which attacks; those that it has started keep theirs.
            os.nice(LOWEST_PRIORITY)
            return [
                row
                for name in names
                for row in _measure(siege, dial if name in CALLS else ask, name)
            ]


@contextmanager
def honest(module: str, address: str) -> Iterator[Measure]:
    """Run honest peers, which are there before each attack."""
    command = [sys.executable, "-m", f"tests.framework.{module}", address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        orders, answers = process.stdin, process.stdout
        assert orders is not None
        assert answers is not None

        def measure(seconds: float) -> list[float]:
            print(seconds, file=orders, flush=True)
            found: list[float] = json.loads(answers.readline())
            return found

        measure(SECONDS)
        yield measure
        orders.close()


def _measure(siege: Siege, measure: Measure, name: str) -> list[dict[str, object]]:
    level = "debug" if name in TOLD_BY_THE_LOG else "info"
    siege.victim.call("node.log_level", level=level)
    normal, attacked, sent = [], [], []
    for _ in range(RUNS):
        normal.append(_seen(siege, measure, name, is_attacked=False))
        before = siege.sent_bytes
        attacked.append(_seen(siege, measure, name, is_attacked=True))
        sent.append((siege.sent_bytes - before) / 1e6)
    rows = []
    what = "dials" if name in CALLS else "requests"
    for number, (kind, unit) in enumerate(
        (
            ("", f"ms, p95 of {what}"),
            ("_mb", "MB, peak"),
            ("_core", "% of a core"),
            ("_waited", "% of the time that it was kept from a core"),
        )
    ):
        base = statistics.median(seen[number] for seen in normal)
        kept_mb = KEPT_OF_SENT_MAX * statistics.median(sent)
        more_mb = min(MORE_MB_MAX, ANYWAY_MB.get(name, MORE_MB_MAX) + kept_mb)
        late_ms = DIAL_MS_MAX if name in CALLS else MOST * base
        goals = (late_ms, base + more_mb, CORE_PERCENT_MAX, None)
        rows.append(
            result(
                f"hostile_{name}{kind}",
                unit,
                [seen[number] for seen in attacked],
                reference="no attack",
                reference_values=[seen[number] for seen in normal],
                goal=goals[number],
                at_least=False,
            )
        )
    return rows


def _seen(siege: Siege, measure: Measure, name: str, *, is_attacked: bool) -> tuple[float, ...]:
    """Return the 95th percentile of an honest peer's requests, the most memory that the node had
    meanwhile, the share of a core that it took, and that which others kept from it: where that is
    much, the first says more of the machine than of the node."""
    siege.reset_peak()
    pid = siege.victim.process.pid
    before, waited, began = cpu_s(pid), waited_s(pid), time.perf_counter()
    p95_ms = trio.run(_p95_ms, siege, measure, name, is_attacked)
    took = time.perf_counter() - began
    core = 100 * (cpu_s(pid) - before) / took
    return p95_ms, siege.peak_mb(), core, 100 * (waited_s(pid) - waited) / took


def waited_s(pid: int) -> float:
    """Return for how long the first thread of a process, which runs the event loop, was ready and
    had no core."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


async def _p95_ms(siege: Siege, measure: Measure, name: str, is_attacked: bool) -> float:
    async with trio.open_nursery() as nursery:
        if is_attacked:
            nursery.start_soon(_attack, siege, ATTACKS.get(name) or CALLS[name])
        if name in CALLS:
            await trio.sleep(FLOOD_BEFORE_DIALS_S)
        seconds = SECONDS_OF.get(name, SECONDS)
        took = sorted(await trio.to_thread.run_sync(measure, seconds))
        nursery.cancel_scope.cancel()
    return 1e3 * took[math.ceil(0.95 * len(took)) - 1]


async def _attack(siege: Siege, attack: Attack) -> None:
    while True:
        try:
            await attack(siege)
        except* (StreamBrokenError, NotRunningError, RefusedError):
            # Cut off in the middle, by the node or by the end of the measurement.
            await trio.lowlevel.checkpoint()


if __name__ == "__main__":
    json.dump(measured(*sys.argv[1:]), sys.stdout)
