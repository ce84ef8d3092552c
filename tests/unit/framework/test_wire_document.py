"""docs/wire.md says what the code does, and protocol.md §11 lists the same requests and topics."""

from __future__ import annotations

import re

import pytest

from tests.framework.wire_document import COMMAND, DOCUMENT, GENESIS, SECTIONS, examples, filled
from tests.framework.wire_document import Chain as ExampleChain
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.ban_list import FIRST_BAN_MS
from unchained.node.peers.dialler import PeerSettings
from unchained.node.peers.manager import SILENT_POLLS
from unchained.node.peers.penalty import FAULT_MS
from unchained.node.peers.reputation import DEBT_FORGIVEN_MS_PER_S, DEBT_MS_MAX, VISITORS_MAX
from unchained.node.primitives.body import Body
from unchained.node.relay import stem
from unchained.node.transport.libp2p import (
    arrivals,
    budget,
    connection,
    handshakes,
    identify,
    listener,
    pace,
    streams,
    tls,
    unsent_answers,
    yamux,
)
from unchained.node.wire import limits
from unchained.node.wire import messages as wire
from unchained.node.wire.messages import Code

PROTOCOL = DOCUMENT.with_name("protocol.md")
KINDS = [kind.name for kind in limits.EXCHANGES]
TOPICS = [kind.name for kind in limits.TOPICS]
NUMBERS = {2: "two", 3: "three", 8: "eight", 10: "ten"}


def section_11() -> str:
    text = PROTOCOL.read_text("utf-8")
    return text[text.index("## 11. ") : text.index("## 12. ")]


def test_its_tables_and_examples_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert filled(text) == text, f"run {COMMAND}"


def test_a_change_of_any_section_would_be_seen() -> None:
    text = DOCUMENT.read_text("utf-8")
    for name, made in SECTIONS.items():
        changed = text.replace(made(), "something else")
        assert changed != text, name
        assert filled(changed) == text


def test_every_request_is_in_both_documents() -> None:
    assert set(examples(ExampleChain())) == set(KINDS)
    (requests,) = re.findall(r"^- request/response: (.*)$", section_11(), re.MULTILINE)
    listed = re.findall(r"(?:^|[,;] )`(\w+)`", requests)
    assert listed == KINDS
    text = DOCUMENT.read_text("utf-8")
    layouts = text[text.index("### Layouts") : text.index("### Limits")]
    assert re.findall(r"^\| `(\w+)` \|", layouts, re.MULTILINE) == KINDS


def test_every_topic_is_in_both_documents() -> None:
    (topics,) = re.findall(r"^- gossip topics (.*)$", section_11(), re.MULTILINE)
    assert re.findall(r"/(\w+)/1`", topics) == TOPICS
    text = DOCUMENT.read_text("utf-8")
    gossip = text[text.index("## Gossip") : text.index("topic limits")]
    assert re.findall(r"^\| `/unchained/<g>/(\w+)/1` \|", gossip, re.MULTILINE) == TOPICS


@pytest.mark.parametrize("name", ["identify", "ping"])
def test_what_libp2p_serves_is_named_too(name: str) -> None:
    assert f"`{name}`" in section_11()


def test_every_code_is_explained() -> None:
    text = DOCUMENT.read_text("utf-8")
    for code in Code:
        assert re.search(rf"^\| {code.value} \| `{code.name}`", text, re.MULTILINE)


LAYOUTS = {
    # What is asked and answered, where it is no plain list.
    "status": (wire.Status, wire.Status),
    "headers": (wire.HeadersRequest, None),
    "votes": (wire.VotesRequest, wire.VotesPage),
    "addresses": (wire.AddressesRequest, None),
    "stem": (wire.StemRequest, wire.Taken),
}


def elements(layout: str) -> list[str]:
    """Return the elements of the first array in some text, as they are written."""
    depth, found = 0, [""]
    for char in layout[layout.index("[") + 1 :]:
        if char == "]" and not depth:
            break
        depth += {"[": 1, "]": -1}.get(char, 0)
        if char == "," and not depth:
            found.append("")
        else:
            found[-1] += char
    return [element.strip() for element in found if element.strip()]


def layouts() -> dict[str, list[str]]:
    """Return the two layouts of each request in docs/wire.md."""
    text = DOCUMENT.read_text("utf-8")
    part = text[text.index("### Layouts") : text.index("### Limits")]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", part, re.MULTILINE)
    return {name: [asked, answered] for name, asked, answered in rows}


def test_layouts_have_the_fields_of_the_code() -> None:
    for name, written in layouts().items():
        for text, layout in zip(written, LAYOUTS.get(name, (None, None)), strict=True):
            if layout is None:
                assert elements(text)[0].endswith("…"), name
            elif not text.startswith("the same"):
                assert len(elements(text)) == len(layout.__struct_fields__), name
    assert elements(layouts()["status"][0]) == list(wire.Status.__struct_fields__)
    text = DOCUMENT.read_text("utf-8")
    for name, layout in (("anchor", AnchorHeader), ("body", Body)):
        (line,) = re.findall(rf"^{name} += (\[.*\])$", text, re.MULTILINE)
        assert len(elements(line)) == len(layout.__struct_fields__), name


def test_section_11_has_the_layouts_and_numbers_of_the_code() -> None:
    """Fields and limits: thereby those of docs/wire.md, whose tables the code makes."""
    text = section_11()
    (fields,) = re.findall(r"`status` \((.*?)\)", text)
    assert fields.replace("sum of work", "work").split(", ") == list(wire.Status.__struct_fields__)
    words = {"five": 5, "three": 3, "two": 2}
    (count,) = re.findall(r"`bodies` \(the (\w+) fields of", text)
    assert words[count] == len(Body.__struct_fields__)
    ((lists, roots),) = re.findall(
        r"`/anchor/1` \(the coin; for each of the (\w+) lists its n and top; the (\w+) last", text
    )
    assert 1 + words[lists] + words[roots] == len(AnchorHeader.__struct_fields__)
    said = {
        f"first {len(limits.name_of(GENESIS, 'coin').split('/')[2])} hex digits": "a network",
        f"at most {limits.HEADERS.max_items}, each": "headers",
        f"(at most {limits.ADDRESSES.max_items})": "addresses",
        f"the same for {NUMBERS[round(stem.ROUTE_S / 60)]} minutes": "a stem's peer",
        f"with a chance of {stem.FLUFF:g}": "a stem's end",
        f"to {NUMBERS[stem.PEERS_TRIED_MAX]} at most": "a stem's peers",
        f"within {stem.EMBARGO_MIN_S:g} s and a random time of {stem.EMBARGO_MORE_S:g} s": "an "
        "embargo",
        f"At most {NUMBERS[limits.COIN_GOSSIP.max_per_peer]} unproven coins per peer": "coins",
    }
    assert [what for words_, what in said.items() if words_ not in text] == []


def test_what_a_peer_owes_has_the_numbers_of_the_code() -> None:
    text = DOCUMENT.read_text("utf-8")
    said = [
        f"It answers `status`, every {PeerSettings().status_s:g} s: after "
        f"{NUMBERS[SILENT_POLLS]} requests in a row",
        f"costs {FAULT_MS:g} ms of a debt of {DEBT_MS_MAX:,.0f} ms that bans and of which "
        f"{DEBT_FORGIVEN_MS_PER_S:g} ms are forgiven each second",
        f"The first lasts {NUMBERS[FIRST_BAN_MS // 60_000]} minutes",
        f"at most\n{identify.IDENTIFY_BYTES_MAX:,} bytes",
        f"Lines have at most {streams.LINE_BYTES_MAX:,} bytes; {NUMBERS[streams.PROPOSALS_MAX]} "
        f"proposals are heard, on a stream {NUMBERS[streams.STREAM_PROPOSALS_MAX]}",
        f"a side may send {tls.HANDSHAKE_BYTES_MAX >> 10} KiB",
        f"A stream without a ping for {identify.PING_IDLE_S:g} s is closed",
        f"more than {identify.ECHOES_BURST} at once and\n{identify.ECHOES_PER_S:g} a second wait",
        f"comes for {NUMBERS[yamux.DEAD_AFTER_SILENCES]} times as long is dead",
    ]
    assert [words for words in said if words not in text] == []


def test_the_limits_in_docs_network_are_those_of_the_code() -> None:
    text = DOCUMENT.with_name("network.md").read_text("utf-8")
    kib, mib = 1 << 10, 1 << 20
    default = PeerSettings().limits
    places = default.outbound + default.inbound + VISITORS_MAX
    owed = pace.INBOUND_WORK_PER_S / (2 * places)
    said = [
        f"| connections | `network.outbound` + `network.inbound` + {VISITORS_MAX} |",
        f"where {listener.BACKLOG_CONNECTIONS:,} wait, {listener.ACCEPTED_PER_S:,.0f} per second",
        f"{arrivals.ARRIVALS_WAITING_MAX} wait there, of them "
        f"{arrivals.ARRIVALS_WAITING_PER_IP_MAX} of one address",
        f"Looked at {listener.ARRIVALS_BURST} at once and {listener.ARRIVALS_PER_S:g} per second",
        f"{handshakes.HANDSHAKES_MAX}, of them {handshakes.HANDSHAKES_PER_IP_MAX} per IPv4",
        f"{handshakes.HANDSHAKES_BURST} at once and {handshakes.HANDSHAKES_PER_S:g} per second, "
        "networks in turn",
        f"{connection.SERVED_STREAMS_MAX}; {yamux.OPEN_STREAMS_MAX} open; "
        f"{connection.REFUSED_STREAMS_BURST:,} at once and {connection.REFUSED_STREAMS_PER_S} per "
        "second are refused",
        f"{pace.PEER_WORK_PER_S // mib} MiB of work at once and per second",
        f"{pace.WORK_PER_RPC // kib} KiB more for each RPC, {pace.WORK_PER_ENTRY} bytes for each "
        f"entry, {pace.WORK_PER_ID} for each id",
        f"frame {pace.WORK_PER_FRAME // kib} KiB and a TLS record {pace.WORK_PER_RECORD} bytes",
        f"a stream that it opens {pace.WORK_PER_STREAM // kib} KiB, each protocol proposed on it "
        f"{pace.WORK_PER_PROPOSAL // kib} KiB, an answer to `identify` "
        f"{pace.WORK_PER_IDENTIFY // kib} KiB, to a ping {pace.WORK_PER_PING // kib} KiB, a "
        f"request that finds no place {pace.PRICE_OF_REFUSAL // kib} KiB",
        f"{pace.INBOUND_WORK_PER_S // mib} MiB per second ({pace.INBOUND_WORK_BURST // kib} KiB at "
        "once) for all together",
        f"{owed / kib:.0f} KiB per second to each of {places}",
        f"({pace.OWED_MAX // mib} MiB at most; {pace.GREETING_WORK // kib} KiB when it connects)",
        f"{budget.UNREAD_SHARE_BYTES // kib} KiB of each connection, and "
        f"{budget.UNREAD_POOL_BYTES // mib} MiB for all beyond these, at most "
        f"{budget.UNREAD_BYTES_OF_PEER_MAX // mib} MiB of one",
        f"of gossip {budget.OUTBOX_SHARE_BYTES // kib} KiB of each connection, and "
        f"{budget.OUTBOX_POOL_BYTES // mib} MiB for all beyond these, at most "
        f"{budget.OUTBOX_BYTES_OF_PEER_MAX // mib} MiB of one",
        f"{unsent_answers.UNSENT_ANSWER_BYTES_OF_PEER_MAX // mib} MiB of one peer, then refused, "
        f"before they are made where less than {unsent_answers.ROOM_WANTED_BYTES // mib} MiB are "
        f"left; {unsent_answers.UNSENT_ANSWER_BYTES_MAX // mib} MiB of all",
        f"| an RPC of gossip | {connection.WHOLE_READ_S:g} s from its first byte |",
    ]
    assert [words for words in said if words not in text] == []
