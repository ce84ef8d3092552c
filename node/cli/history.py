"""``unchained-node wallet history`` and the like: what came and went."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from unchained.node.base.number_words import number_of
from unchained.node.base.terminal_text import ends, json_line
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.output_file import check_output
from unchained.node.cli.tables import moment
from unchained.node.cli.wallet import (
    DEFAULT_WALLET,
    LimitOption,
    OnlyAccountOption,
    WalletOption,
    app,
)
from unchained.node.primitives.amounts import grains_of, shortest
from unchained.node.rpc.client.history_csv import HistoryCsv

HISTORY_COLUMNS: Final = ("time", "kind", "amount", "fee", "payee", "note", "confirmations", "id")
HISTORY_COLUMNS_ON_TERMINAL: Final = ("when", "kind", "amount", "details", "votes", "id")
"""What fits a terminal of 80 columns; `wallet transfer` shows all of one entry, and `--columns`
chooses among the members, which say the same at length."""
PAGE: Final = 1_000
TOO_LARGE: Final = "TOO_LARGE"
"""The node's word for an answer above its limit."""

ENDS: Final = 12
"""Characters of a payee that a terminal of 80 columns has room for."""

MINUTES: Final = len("2026-11-29 12:00")

SHOWN_PAYEE: Final = 44
"""Characters of a payee that a table shows: a whole address or the ends of what is longer."""

Pages = Iterator[list[dict[str, Any]]]

HISTORY_KINDS: Final = ("mined", "received", "paid", "moved", "contract")

SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="DATE", help="From then on (UTC), as 2026-11-29[T12:00]."),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", metavar="DATE", help="Before this time (UTC).")
]


def add_to(_root: typer.Typer) -> None:
    """Add nothing: the commands stand beside those of `wallet`."""


@asking(app, "history", table=True)
@user_text(
    """Show what touched a wallet: what waits first, then from the tip down. What was mined stands
    together by days.

    With --all it has no limit; for other programs add --csv or --json.
    """
)
def history(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    mined: Annotated[bool, typer.Option("--mined", help="Show each coin that was mined.")] = False,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="|".join(HISTORY_KINDS),
            help="This kind; may be given more than once.",
        ),
    ] = None,
    account: OnlyAccountOption = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="TEXT", help="Has this in its label.")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 100,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Go on below this entry.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Without a limit.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, each mined coin.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")
    ] = None,
) -> None:
    kinds = kind or list(HISTORY_KINDS)
    wanted: dict[str, object] = {
        "wallet": wallet,
        "account": account,
        "label": label,
        "since": _moment(since, "--since"),
        "until": _moment(until, "--until"),
    }
    if output is not None and (as_csv or node.json):
        check_output(output)
    if as_csv or node.json:
        pages = _pages(node, wanted | {"kinds": kinds}, None if everything else limit, after)
        _write(pages, output, _csv if as_csv else _json)
        return
    if output is not None:
        raise typer.BadParameter("needs --csv or --json", param_hint="--output")
    # a label is of one coin, so the coins that have it are shown one by one
    folded = not mined and "mined" in kinds and label is None and after is None
    listed = [name for name in kinds if not (folded and name == "mined")]
    rows: list[dict[str, Any]] = []
    if listed:
        pages = _pages(node, wanted | {"kinds": listed}, None if everything else limit, after)
        rows = [_row(item) for page in pages for item in page]
    if folded:
        days = _days(node, wanted, None if everything else limit)
        rows = sorted([*rows, *days], key=lambda row: row["order"], reverse=True)
        rows = rows if everything else rows[:limit]
    narrowed = kind or label is not None or since or until or after or account is not None
    _show(node, rows, "nothing matches" if narrowed else "nothing yet")


@asking(app, "mined", table=True)
@user_text("Show what a wallet mined on each day (UTC), the latest first.")
def mined_days(
    node: Asker,
    wallet: WalletOption = DEFAULT_WALLET,
    account: OnlyAccountOption = None,
    limit: LimitOption = 100,
) -> None:
    found = node.call("wallet.mined", wallet=wallet, account=account, limit=limit)
    columns = ("day", "coins", "amount", "first_height", "last_height")
    node.show_rows(found, columns, "nothing was mined")


@asking(app, "history-since", table=True)
@user_text("Show what has changed in the history since a point; begin with 0.")
def history_since(
    node: Asker,
    sequence: Annotated[
        int, typer.Argument(metavar="[N]", min=0, help="The `next` of the last time.")
    ] = 0,
    wallet: WalletOption = DEFAULT_WALLET,
    limit: LimitOption = 100,
    log: Annotated[
        str | None, typer.Option("--log", metavar="ID", help="The `log` of the last time.")
    ] = None,
) -> None:
    found = node.call(
        "wallet.history_since", sequence=sequence, wallet=wallet, limit=limit, log=log
    )

    def human() -> None:
        rows = [_row(item) for item in found["entries"]]
        _show(node, rows, "nothing new", "status")
        more = " (there is more)" if found["more"] else ""
        typer.echo(f"next: {found['next']} of log {found['log']}{more}", err=True)

    node.show(found, human)


@asking(app, "transfer")
@user_text("Show a transfer that touched a wallet.")
def transfer(
    node: Asker,
    txid: Annotated[str, typer.Argument(metavar="TXID", help="Its id.")],
    wallet: WalletOption = DEFAULT_WALLET,
) -> None:
    found = node.call("wallet.transfer", txid=txid, wallet=wallet)
    if node.json:
        node.show_fields(found)
        return
    entry = found["entry"]
    shown = {name: value for name, value in entry.items() if value not in ("", [])}
    shown |= {"anchors": found["anchors"]}
    for name in ("coins", "spent"):
        shown[name] = [{"id": coin["id"], "amount": coin["amount"]} for coin in found[name]]
    node.show_fields({name: value for name, value in shown.items() if value not in (None, [])})


def _show(node: Asker, rows: Sequence[Mapping[str, Any]], empty: str, *more: str) -> None:
    """Show rows by what a terminal has room for, or by the members that `--columns` chooses."""
    columns = (*(HISTORY_COLUMNS_ON_TERMINAL if node.is_brief else HISTORY_COLUMNS), *more)
    members = dict.fromkeys((*columns, "status"))
    told = [{name: row[name] for name in members if name in row} for row in rows]
    node.show_rows(told, columns, empty)


def _pages(node: Asker, wanted: dict[str, object], limit: int | None, after: str | None) -> Pages:
    """Yield entries a page at a time, `limit` in all."""
    most = PAGE
    while limit is None or limit > 0:
        size = most if limit is None else min(limit, most)
        try:
            page = node.call_with(
                "wallet.history", _given(wanted | {"limit": size, "after": after})
            )
        except CommandFailedError as error:
            if error.word != TOO_LARGE or size == 1:
                raise
            most = size // 2  # entries that pay hundreds of paycodes each
            continue
        if page:
            yield page
            after = page[-1]["id"]
        if len(page) < size:
            return
        limit = None if limit is None else limit - size


def _days(node: Asker, wanted: dict[str, object], limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield the days on which something was mined as rows of the table."""
    asked = {name: value for name, value in wanted.items() if name != "label"}
    offset = 0
    while limit is None or offset < limit:
        size = PAGE if limit is None else min(limit - offset, PAGE)
        found = node.call_with("wallet.mined", _given(asked | {"limit": size, "offset": offset}))
        for day in found:
            coins = number_of(day["coins"], "coin")
            yield {
                "order": (False, day["last_height"], day["time"]),
                "time": day["time"],
                "when": day["day"],
                "kind": "mined",
                "amount": f"+{day['amount']}",
                "fee": "",
                "payee": "",
                "note": f"{coins}, heights {day['first_height']} to {day['last_height']}",
                "details": coins,
                "confirmations": "",
                "votes": "",
                "id": "",
            }
        offset += size
        if len(found) < size:
            return


def _given(params: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in params.items() if value is not None}


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry as a row of the table: nothing where there is nothing to say."""
    height = item.get("height")
    amount = item["amount"]
    payees = [_shortened(payee["payee"]) for payee in item["payees"]]
    notes = [item["label"], *item["memos"], *(f"invoice {one}" for one in item["invoices"])]
    notes += [payee["memo"] for payee in item["payees"]]
    noted = "; ".join(note for note in notes if note)
    # what a contract pays is not what the wallet has less
    sums = item["kind"] == "contract"
    paid = [
        f"{shortest(grains_of(payee['amount']))} to {shortest_payee(payee)}"
        if sums
        else shortest_payee(payee)
        for payee in item["payees"]
    ]
    details = [", ".join(paid), *notes]
    confirmations = "waiting" if item["status"] == "waiting" else item["confirmations"]
    return {
        "order": (height is None, height or 0, item.get("time", 0)),
        "time": item.get("time", ""),
        "when": moment(item["time"])[:MINUTES] if item.get("time") else "",
        "kind": item["kind"],
        "amount": amount if sums or amount.startswith("-") else f"+{amount}",
        "fee": item.get("fee", ""),
        "payee": ", ".join(payees),
        "note": noted,
        "details": "; ".join(short_words(text) for text in dict.fromkeys(details) if text),
        "confirmations": confirmations,
        "votes": confirmations,
        "status": item["status"],
        "id": item["id"],
    }


def _shortened(payee: str) -> str:
    return ends(payee, 2 * SHOWN_PAYEE, SHOWN_PAYEE // 2, SHOWN_PAYEE // 2)


def shortest_payee(payee: Mapping[str, Any]) -> str:
    """Return what the address book calls a payee, or his ends."""
    name, text = payee.get("alias"), payee["payee"]
    if name:
        return str(name)
    return ends(text, ENDS, ENDS // 2, ENDS // 2 - 1)


def short_words(text: str) -> str:
    """Return a text whose words have room in a column of a terminal of 80."""
    return " ".join(word if len(word) <= ENDS else f"{word[: ENDS - 1]}…" for word in text.split())


def _moment(text: str | None, option: str) -> int | None:
    """Return a time of day in UTC in ms since 1970. Raises `typer.BadParameter`."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        time_ms = int(aware.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text[:40]!r} is no time: expected 2026-11-29 or 2026-11-29T12:00", param_hint=option
        ) from None
    if time_ms < 0:
        raise typer.BadParameter("a time before 1970", param_hint=option)
    return time_ms


# Export


def _write(
    pages: Pages,
    output: Path | None,
    form: Callable[[Pages, TextIO], None],
) -> None:
    """Write pages as they come, to a file or the standard output. Raises `CommandFailedError`."""
    if output is None:
        form(pages, sys.stdout)
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            form(pages, file)
    except OSError as error:
        raise CommandFailedError(f"{output}: {error.strerror}") from None


def _json(pages: Pages, file: TextIO) -> None:
    """Write a JSON array, an entry on a line."""
    lead = "["
    for page in pages:
        for item in page:
            file.write(f"{lead}{json_line(item)}")
            lead = ",\n"
    file.write("[]\n" if lead == "[" else "]\n")


def _csv(pages: Pages, file: TextIO) -> None:
    rows = HistoryCsv(file)
    for page in pages:
        rows.write(page)
