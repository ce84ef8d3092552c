"""``unchained-node doctor``: what is wrong with a node and its machine, and what to do about it."""

from __future__ import annotations

import errno
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from unchained.node.base.number_words import number_of
from unchained.node.base.os_errors import os_error_line
from unchained.node.base.terminal_text import harmless
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.guide import hint, place_of
from unchained.node.cli.options import settings_from
from unchained.node.cli.tables import sentence_lines, width
from unchained.storage.lock import holder_of

if TYPE_CHECKING:
    from unchained.node.base.settings import Settings

DISK_BYTES: Final = 512 << 20
"""Free space below which a node is not ready."""

DISK_SCARCE_BYTES: Final = 5 << 30
"""Free space below which somebody should look."""

HUGE_PAGES: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")

TIME_SYNCED: Final = Path("/run/systemd/timesync/synchronized")

BAD, DOUBTFUL, GOOD, UNKNOWN = "bad", "doubtful", "good", "unknown"

EXIT_BAD: Final = 1
EXIT_UNKNOWN: Final = 3
"""Nothing that could be looked at is bad; 2 is wrong use, as of every command."""

TAKES_A_NODE: Final[Mapping[str, str]] = {
    "synced": "whether it has the whole chain",
    "peers": "whether it has enough peers",
    "clock_offset": "how far the clock is from those of peers",
}
"""What only a node that runs can say of itself: criteria of /readyz, and what each would show."""

ADVICE: Final[Mapping[str, str]] = {
    "synced": "wait for it; if it does not move: `unchained-node peers`, and docs/network.md",
    "peers": "open the port, or name nodes by network.bootstrap; `unchained-node peers`",
    "clock": "set the clock: chrony or systemd-timesyncd",
    "clock_offset": "set the clock: chrony or systemd-timesyncd",
    "disk": "make room, or move the data directory",
    "store": "mend the disk, and start the node again; `unchained-node db check`",
}
"""What to do about a criterion of /readyz that is not met."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `do` is empty where nothing is to be done."""

    name: str
    verdict: str
    says: str
    do: str = ""


def add_to(root: typer.Typer) -> None:
    """Add the command."""
    asking(root, "doctor")(doctor)


@user_text(
    "Look at clock, disk, peers, ports, memory, huge pages, key files, store and versions, and say "
    "what to do. Exit code 0: all is well enough; 1: something is bad; 3: nothing is bad, but "
    "something could not be looked at, as where no node runs."
)
def doctor(node: Asker) -> None:
    settings = settings_from(node.flags, config=None)
    found = list(findings(node, settings))
    node.show(
        [msgspec.to_builtins(finding) for finding in found],
        lambda: _print(found, place_of(settings)),
    )
    verdicts = {finding.verdict for finding in found}
    if BAD in verdicts:
        raise typer.Exit(EXIT_BAD)
    if UNKNOWN in verdicts:
        raise typer.Exit(EXIT_UNKNOWN)


def findings(node: Asker, settings: Settings) -> Iterator[Finding]:
    """Look at everything."""
    try:
        status = node.call("node.status")
        version = node.call("node.version")
    except CommandFailedError as error:
        yield Finding("node", UNKNOWN, str(error))
        for name, shows in TAKES_A_NODE.items():
            yield Finding(name, UNKNOWN, f"only a node that runs can say {shows}")
        if not node.remote:
            yield from _without_node(settings)
    else:
        yield Finding("node", GOOD, f"runs, height {status['height']:,}")
        yield _versions(version["unchained"])
        checks = status["checks"]
        if not node.remote:
            # it is looked at here, where little room is a doubt before it is too little
            checks = {name: says for name, says in checks.items() if name != "disk"}
        yield from _criteria(checks)
    if not node.remote:
        yield from _unfinished(settings.data_dir)
        yield from _machine(settings)


def _criteria(checks: Mapping[str, str]) -> Iterator[Finding]:
    for name, says in checks.items():
        good = says.startswith("ok")
        text = says.removeprefix("ok").removeprefix(": ") or "ok"
        yield Finding(name, GOOD if good else BAD, text, "" if good else ADVICE.get(name, ""))


def _versions(running: str) -> Finding:
    from importlib.metadata import version

    here = version("unchained")
    python = ".".join(map(str, sys.version_info[:3]))
    if running != here:
        return Finding(
            "versions",
            DOUBTFUL,
            f"the node runs {running}, installed is {here}",
            "start the node again, to run what is installed",
        )
    return Finding("versions", GOOD, f"unchained {here}, Python {python}")


def _without_node(settings: Settings) -> Iterator[Finding]:
    from importlib.metadata import version

    from unchained.node.base.ports import rpc_place
    from unchained.node.consensus.params import NETWORKS

    config = settings.config
    yield _versions(version("unchained"))
    rules = NETWORKS[config.node.network]
    if time.time() * 1000 < rules.birth_ms:
        yield Finding("clock", BAD, "it shows a time before the network began", ADVICE["clock"])
    elif TIME_SYNCED.parent.is_dir() and not TIME_SYNCED.exists():
        yield Finding(
            "clock", DOUBTFUL, "the system has not yet set it by a time server", ADVICE["clock"]
        )
    else:
        yield Finding("clock", GOOD, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    holder = holder_of(settings.data_dir)
    if holder is not None:
        why = f"{holder} has the data directory: it was not looked at"
        yield Finding("rpc port", UNKNOWN, why)
        yield Finding("key files", UNKNOWN, why)
        yield Finding("store", UNKNOWN, why)
        return
    host, port, takes_next = rpc_place(config.rpc.listen, config.node.network)
    if config.rpc.enabled and port:
        yield _port("rpc port", host, port, "rpc.listen", takes_next=takes_next)
    yield from _key_files(settings.data_dir)
    yield _store(settings)


def _key_files(directory: Path) -> Iterator[Finding]:
    """Look at the small files without which a node does not start, or starts as another."""
    from unchained.node.rpc.core.credential_files import TOKEN_FILE
    from unchained.node.rpc.http.gatekeeper import read_token
    from unchained.node.rpc.http.tokens import TOKENS_FILE, TokenError, read_tokens
    from unchained.node.transport.contract import BadIdentityError
    from unchained.node.transport.identity import PEER_KEY_FILE, Identity

    # Who only looks changes no file.
    readers: dict[str, Callable[[Path], object]] = {
        PEER_KEY_FILE: partial(Identity.load, close=False),
        TOKEN_FILE: read_token,
        TOKENS_FILE: read_tokens,
    }
    are_sound = True
    for name, read in readers.items():
        try:
            with suppress(FileNotFoundError):
                read(directory / name)
        except (BadIdentityError, TokenError) as error:
            are_sound = False
            yield Finding(name, BAD, str(error))
        except OSError as error:
            are_sound = False
            yield Finding(name, BAD, os_error_line(error))
    if are_sound:
        yield Finding("key files", GOOD, "can be read, or are still to be made")


def _unfinished(directory: Path) -> Iterator[Finding]:
    """Look for what crashes have left of files with secrets; say nothing where there is none."""
    from unchained.node.cli.unfinished import unfinished_in

    left = unfinished_in(directory)
    if left:
        first = f"{left[0]}{' and others' if len(left) > 1 else ''}"
        yield Finding(
            "unfinished files",
            DOUBTFUL,
            f"{number_of(len(left), 'file')} with secrets that a crash cut short: {first}",
            "start the node again: it removes them",
        )


def _port(name: str, host: str, port: int, key: str, *, takes_next: bool) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if taken and takes_next:
                return Finding(name, GOOD, f"{port} is taken: the next free one will be used")
            why = "taken by another program" if taken else error.strerror or str(error)
            return Finding(name, BAD, f"{host}:{port}: {why}", f"choose another by {key}")
    return Finding(name, GOOD, f"{host}:{port} is free")


def _store(settings: Settings) -> Finding:
    from unchained.node.consensus.params import NETWORKS
    from unchained.storage.errors import StoreError, StoreMissingError
    from unchained.storage.open import open_store

    try:
        store = open_store(settings.data_dir, NETWORKS[settings.config.node.network], create=False)
    except StoreMissingError:
        return Finding("store", GOOD, "none yet: the first start makes it")
    except StoreError as error:
        return Finding("store", BAD, str(error), ADVICE["store"])
    store.close()
    return Finding("store", GOOD, "opens")


def _machine(settings: Settings) -> Iterator[Finding]:
    import psutil

    from unchained.node.consensus.params import NETWORKS

    directory = settings.data_dir
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    try:
        free = shutil.disk_usage(directory).free
    except OSError as error:
        yield Finding("disk", BAD, f"{directory}: {error.strerror}", ADVICE["disk"])
    else:
        verdict = BAD if free < DISK_BYTES else DOUBTFUL if free < DISK_SCARCE_BYTES else GOOD
        do = ADVICE["disk"] if verdict != GOOD else ""
        yield Finding("disk", verdict, f"{free >> 20:,} MiB are free at {directory}", do)
    memory = psutil.virtual_memory()
    config = settings.config
    per_worker = NETWORKS[config.node.network].mem_kib << 10
    least = (200 << 20) + (per_worker if config.mining.enabled else 0)
    says = f"{memory.available >> 20:,} of {memory.total >> 20:,} MiB are free"
    if memory.available < least:
        yield Finding(
            "memory",
            DOUBTFUL,
            says,
            f"a node takes some {least >> 20} MiB here: lower mining.workers",
        )
    else:
        yield Finding("memory", GOOD, says)
    if config.mining.enabled:
        yield _huge_pages(asked=config.mining.huge_pages)


def _huge_pages(*, asked: bool) -> Finding:
    if not asked:
        return Finding("huge pages", GOOD, "not in use (the setting mining.huge_pages is off)")
    text = ""
    with suppress(OSError):
        text = HUGE_PAGES.read_text(encoding="ascii")
    if "[never]" in text or not text:
        return Finding(
            "huge pages",
            DOUBTFUL,
            "the system gives none, so mining is slower",
            f"echo madvise > {HUGE_PAGES}",
        )
    return Finding("huge pages", GOOD, "the system gives them when a program asks")


_SIGNS: Final[Mapping[str, tuple[str, Any]]] = {
    GOOD: ("ok", typer.colors.GREEN),
    DOUBTFUL: ("??", typer.colors.YELLOW),
    BAD: ("!!", typer.colors.RED),
    UNKNOWN: ("--", typer.colors.YELLOW),
}


def _print(found: list[Finding], place: Mapping[str, str]) -> None:
    longest = max(len(finding.name) for finding in found)
    left = " " * (longest + 6)
    tty = sys.stdout.isatty()

    def told(text: str) -> str:
        lines = sentence_lines(text, width() - len(left)) if tty else [text]
        return f"\n{left}".join(lines)

    for finding in found:
        sign, colour = _SIGNS[finding.verdict]
        line = typer.style(sign, fg=colour) if tty else sign
        typer.echo(f"{line}  {finding.name:{longest}}  {told(hint(harmless(finding.says), place))}")
        if finding.do:
            typer.echo(left + told(f"-> {hint(finding.do, place)}"))
