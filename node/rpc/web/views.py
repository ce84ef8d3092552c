"""The facts of each page, from the node's own methods: what its JSON holds and its template shows.

Addresses of peers are no part of any page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Final

from unchained.node.rpc.core.errors import InvalidParamsError, NotFoundError, short
from unchained.node.rpc.web.fork_choice import contests, explain
from unchained.node.rpc.web.reads import PageReads

Facts = dict[str, Any]
"""What a page says, as JSON holds it."""

ANCHORS_SHOWN: Final = 10
EVENTS_SHOWN: Final = 100
HEIGHTS_OF_TREE: Final = 24
HISTORY_POINTS: Final = 180
WAITING_SHOWN: Final = 200
COINS_OF_LOCK: Final = 100
HEIGHT_DIGITS_MAX: Final = 18
CHECKSUM_CHARS: Final = 6
"""Characters at the end of an address that prove it; before its last 1 stands its prefix."""

QUERY_CHARS_MAX: Final = 160

SERIES_SHOWN: Final = (
    "network_hashrate",
    "hashrate",
    "coins",
    "coins_stray",
    "mempool_transfers",
    "min_fee_rate",
    "mempool_fees",
    "deepest_reorg",
    "side_anchors",
    "peers_greeted",
    "peer_latency",
    "bytes_received",
    "memory",
)
"""Of the series that the node remembers, what a page of charts draws."""

_PEER_FACTS: Final = (
    "peer",
    "outbound",
    "connected_ms",
    "latency_ms",
    "security",
    "post_quantum",
    "version",
    "height",
    "tip",
    "clock_offset_ms",
)
_LISTS: Final = ("fresh", "uncles", "transfers")
_RIVAL_FACTS: Final = ("id", "status", "votes", "score")
_NET_FACTS: Final = (
    "peer",
    "inbound",
    "outbound",
    "greeted",
    "classical",
    "known_addresses",
    "bans",
    "clock_offset_ms",
    "bytes_received",
    "bytes_sent",
)


class Parts:
    """Which parts of a page are asked for, by the ids of their elements: all, unless it is said
    (`parts=ID ID`), as a page does that shows what is news."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._ids = frozenset(query["parts"].split()) if "parts" in query else None

    def __contains__(self, part: str) -> bool:
        return self._ids is None or part in self._ids

    def has_any(self, *parts: str) -> bool:
        """Return whether one of these is asked for."""
        return any(part in self for part in parts)


async def home(reads: PageReads, _argument: str, query: Mapping[str, str]) -> Facts:
    """The chain at a glance, or what some parts of the page say of it."""
    parts = Parts(query)
    facts: Facts = {}
    if parts.has_any("epoch", "fork-choice", "tree-rows", "latest"):
        facts |= await _tree(reads, None)
    facts["chain"] = await reads.get("chain.tip")
    if "epoch" in parts:
        facts["params"] = await reads.get("chain.params")
    if parts.has_any("tiles", "checks"):
        facts["status"] = await reads.get("node.status")
    if parts.has_any("tiles", "fees"):
        facts["mempool"] = await reads.get("mempool.info")
    if "fees" in parts:
        facts["waiting"] = await _fees(reads)
    if "tiles" in parts:
        facts["history"] = await _history(reads, facts["chain"]["height"], ANCHORS_SHOWN * 6)
        facts["hash_rate"] = hash_rate(facts["history"])
        facts["peers"] = await _peers(reads)
        facts["latency_ms"] = _median_latency(facts["peers"] or ())
        facts["mining"] = await _mining(reads)
    return facts


async def tree(reads: PageReads, _argument: str, query: Mapping[str, str]) -> Facts:
    """The anchors of some heights, and who votes for what."""
    first, last = _height_of(query, "first"), _height_of(query, "last")
    params = {key: value for key, value in (("first", first), ("last", last)) if value is not None}
    return await _tree(reads, params or None)


async def _tree(reads: PageReads, params: Mapping[str, int] | None) -> Facts:
    if params is None:
        tip = await reads.get("chain.tip")
        params = {"first": max(0, tip["height"] - HEIGHTS_OF_TREE + 1)}
    found = await reads.get("chain.tree", **params)
    forks = contests(found["anchors"])
    heights = found["last"] - found["first"] + 1
    return {
        "tree": found,
        "forks": [_plain_contest(fork) for fork in forks],
        "fork_choice": explain(forks, heights),
    }


def _plain_contest(fork: Any) -> Facts:
    branches = [
        {name: getattr(branch, name) for name in branch.__struct_fields__}
        for branch in fork.branches
    ]
    return {"height": fork.height, "lead": fork.lead, "text": fork.text, "branches": branches}


async def anchor(reads: PageReads, argument: str, _query: Mapping[str, str]) -> Facts:
    """An anchor by its id or its height."""
    if _is_height(argument):
        found = await reads.get("chain.anchor_at", height=int(argument))
    else:
        found = await reads.get("chain.anchor", anchor=argument)
    height = found["header"]["height"]
    # Who competes with it stands at its height, and what is bound to it votes.
    around = await reads.get("chain.tree", first=height, last=height)
    rivals = [one for one in around["anchors"] if one["id"] != found["header"]["id"]]
    own = [one for one in around["anchors"] if one["id"] == found["header"]["id"]]
    return {
        "anchor": found,
        "luck": own[0]["luck"] if own else None,
        "bound": own[0]["coins"] if own else [],
        "rivals": [{key: one[key] for key in ("id", "status", "votes", "score")} for one in rivals],
        "height": (await reads.get("chain.tip"))["height"],
    }


async def compare(reads: PageReads, _argument: str, query: Mapping[str, str]) -> Facts:
    """Two anchors, and what the body of each lists that the other's does not."""
    for name in ("one", "other"):
        if name not in query:
            raise InvalidParamsError("to compare takes one=ID and other=ID of two anchors")
    one = await reads.get("chain.anchor", anchor=query["one"])
    other = await reads.get("chain.anchor", anchor=query["other"])
    return {
        "one": one,
        "other": other,
        "lists": {name: _difference(one[name], other[name]) for name in _LISTS},
    }


def _difference(one: Sequence[str], other: Sequence[str]) -> Facts:
    ones, others = set(one), set(other)
    return {
        "both": [entry for entry in one if entry in others],
        "one": [entry for entry in one if entry not in others],
        "other": [entry for entry in other if entry not in ones],
    }


async def coin(reads: PageReads, argument: str, _query: Mapping[str, str]) -> Facts:
    """A coin and its life."""
    found = await reads.get("coin.get", coin=argument)
    header = await reads.find("chain.header", coin=argument)
    return {
        "coin": found,
        "history": await reads.get("coin.history", coin=argument),
        "header": header,
        "luck": None if header is None else _luck(header),
        "height": (await reads.get("chain.tip"))["height"],
        "is_anchor": await reads.find("chain.anchor", anchor=argument) is not None,
        "params": await reads.get("chain.params"),
    }


def _luck(header: Mapping[str, Any]) -> float:
    return round((int(header["target"], 16) + 1) / (int(header["id"], 16) + 1), 3)


async def verify(reads: PageReads, argument: str, _query: Mapping[str, str]) -> Facts:
    """A coin, checked anew by the node."""
    return {"verified": await reads.get("coin.verify", coin=argument)}


async def receipt(reads: PageReads, _argument: str, query: Mapping[str, str]) -> Facts:
    """A receipt, checked by the node."""
    text = "".join(query.get("receipt", "").split()).lower()
    if not text:
        raise InvalidParamsError("a receipt is given in hex digits, as wallet.receipt gives it")
    return {"receipt": await reads.get("transfer.verify_receipt", file=text)}


async def replay(reads: PageReads, _argument: str, query: Mapping[str, str]) -> Facts:
    """The log of events a page at a time: what is played, with script, is this."""
    params: dict[str, int] = {"limit": EVENTS_SHOWN}
    for name in ("since", "limit"):
        number = _height_of(query, name)
        if number is not None:
            params[name] = number
    return {
        "log": await reads.get("chain.events", **params),
        "params": await reads.get("chain.params"),
    }


async def transfer(reads: PageReads, argument: str, _query: Mapping[str, str]) -> Facts:
    """A transfer by its txid or its wid."""
    found = await reads.get("transfer.get", txid=argument)
    waiting = await reads.find("mempool.entry", txid=argument)
    return {"placed": found, "waiting": waiting}


async def lock(reads: PageReads, argument: str, query: Mapping[str, str]) -> Facts:
    """The coins under a lock, or under an address."""
    params: dict[str, Any] = {"spent": True, "limit": COINS_OF_LOCK}
    params["lock" if _is_hash(argument) else "address"] = argument
    if "after" in query:
        params["after"] = query["after"]
    page = await reads.get("coin.owned_by", **params)
    return {"page": page, "address": None if _is_hash(argument) else argument}


async def mempool(reads: PageReads, _argument: str, _query: Mapping[str, str]) -> Facts:
    """What waits for an anchor."""
    return {
        "mempool": await reads.get("mempool.info"),
        "waiting": await _fees(reads),
        "transfers": await reads.get("mempool.list", sort="fee_rate", limit=WAITING_SHOWN),
        "estimate": await reads.get("mempool.fee_estimate"),
    }


async def _fees(reads: PageReads) -> list[list[int]]:
    """Return size and fee rate of what waits, the best first."""
    found = await reads.get("mempool.list", sort="fee_rate", limit=1000)
    return [[entry["size"], entry["fee_rate"]] for entry in found]


async def peers(reads: PageReads, _argument: str, _query: Mapping[str, str]) -> Facts:
    """Who is connected, without addresses."""
    info = await reads.find("net.info")
    return {
        "net": None if info is None else {key: info[key] for key in _NET_FACTS if key in info},
        "peers": await _peers(reads),
    }


async def _peers(reads: PageReads) -> list[Facts] | None:
    found = await reads.find("net.peers")
    if found is None:
        return None
    return [{key: peer[key] for key in _PEER_FACTS if key in peer} for peer in found]


def _median_latency(found: Sequence[Mapping[str, Any]]) -> float | None:
    known = [peer["latency_ms"] for peer in found if peer.get("latency_ms") is not None]
    return round(median(known), 1) if known else None


async def mining(reads: PageReads, _argument: str, _query: Mapping[str, str]) -> Facts:
    """What the node's own miner does."""
    return {"mining": await _mining(reads), "params": await reads.get("chain.params")}


async def _mining(reads: PageReads) -> Any:
    return await reads.get("mine.status")


async def network(reads: PageReads, _argument: str, _query: Mapping[str, str]) -> Facts:
    """The constants of the network, and how the node is."""
    status = await reads.get("node.status")
    return {
        "status": status,
        "params": await reads.get("chain.params"),
        "supply": await reads.get("chain.supply"),
        "version": await reads.get("node.version"),
        "ends": await reads.get("chain.forks"),
    }


async def charts(reads: PageReads, _argument: str, _query: Mapping[str, str]) -> Facts:
    """Difficulty, coins per epoch, intervals and fees of the main chain, and branches that lost."""
    tip = await reads.get("chain.tip")
    params = await reads.get("chain.params")
    history = await _history(reads, tip["height"], HISTORY_POINTS)
    return {
        "day": await reads.get("node.series", names=list(SERIES_SHOWN)),
        "known": await reads.get("node.series_names"),
        "history": history,
        "epochs": epochs_of(history),
        "hash_rate": hash_rate(history),
        "params": params,
        "lost": lost_branches(await reads.get("chain.forks")),
    }


def lost_branches(ends: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return how many branches beside the main chain have each number of anchors, from one on."""
    counts = Counter(end["length"] for end in ends if end["status"] != "main")
    return [[length, counts[length]] for length in range(1, max(counts, default=0) + 1)]


async def _history(reads: PageReads, height: int, points: int) -> list[Facts]:
    first = max(1, height - points + 1)
    found: list[Facts] = await reads.get("chain.difficulty_history", first=first, last=height)
    return found


def epochs_of(history: Sequence[Mapping[str, Any]]) -> list[Facts]:
    """Return how many coins each epoch had, how long it took and what fees its anchor brought."""
    return [
        {
            "height": after["height"],
            "coins": after["n_total"] - before["n_total"],
            "interval_ms": after["time"] - before["time"],
            "fees": after["fees"],
        }
        for before, after in pairwise(history)
    ]


def hash_rate(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the hashes per second that the coins of some epochs stand for on average."""
    if len(history) < 2:
        return None
    seconds = (history[-1]["time"] - history[0]["time"]) / 1000
    hashes = sum(
        (after["n_total"] - before["n_total"]) * int(after["work"])
        for before, after in pairwise(history)
    )
    return hashes / seconds if seconds > 0 else None


async def find(reads: PageReads, query: Mapping[str, str]) -> str:
    """Return the path of the page that a search leads to: by height, id, lock or address.

    Raises NotFoundError, InvalidParamsError.
    """
    text = query.get("q", "").strip()
    if not text:
        raise InvalidParamsError("search for a height, an id (64 hex digits) or an address")
    if len(text) > QUERY_CHARS_MAX:
        raise InvalidParamsError(f"a search has at most {QUERY_CHARS_MAX} characters")
    if _is_height(text):
        await reads.get("chain.anchor_at", height=int(text))
        return f"/anchor/{int(text)}"
    if not _is_hash(text.lower()):
        prefix, _, rest = text.rpartition("1")
        if not prefix or len(rest) <= CHECKSUM_CHARS:
            raise NotFoundError("nothing found: type a height, an id (64 hex digits) or an address")
        # An address; what is none is refused in words.
        page = await reads.get("coin.owned_by", address=text, spent=True, limit=1)
        return f"/lock/{page['lock']}"
    wanted = text.lower()
    for name, parameter, path in (
        ("chain.anchor", "anchor", "anchor"),
        ("coin.get", "coin", "coin"),
        ("transfer.get", "txid", "transfer"),
    ):
        if await reads.find(name, **{parameter: wanted}) is not None:
            return f"/{path}/{wanted}"
    if (await reads.get("coin.owned_by", lock=wanted, spent=True, limit=1))["coins"]:
        return f"/lock/{wanted}"
    raise NotFoundError(f"no anchor, coin, transfer or lock {wanted} is known")


def _is_hash(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _is_height(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= HEIGHT_DIGITS_MAX


def _height_of(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not _is_height(text):
        raise InvalidParamsError(f"{name} is a whole number, not {short(repr(text))}")
    return int(text)
