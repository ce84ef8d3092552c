"""The names that people and programs use, and what each was called before version 1.0.

The one table from which an old name is answered for (RPC and command line) and from which
docs/vocabulary.md is made:

python -m unchained.node.base.vocabulary > docs/vocabulary.md
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


class Named(enum.StrEnum):
    """What bears a name."""

    METHOD = "method"
    PARAMETER = "parameter"
    """Of a method, or a member of an object that a method takes."""
    FIELD = "field"
    """A member of a result."""
    COMMAND = "command"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Renaming:
    """A name that changed. `where` is the method, type or command that it belongs to, or a
    pattern of them (`wallet.*`); empty for methods and commands, which are whole names."""

    named: Named
    where: str
    old: str
    new: str
    why: str


def _renamed(named: Named, why: str, *names: tuple[str, str, str]) -> tuple[Renaming, ...]:
    return tuple(Renaming(named, where, old, new, why) for where, old, new in names)


RENAMINGS: Final[tuple[Renaming, ...]] = (
    *_renamed(
        Named.METHOD,
        "it exports what a watch-only copy is made of, the counterpart of `wallet.import_watch`",
        ("", "wallet.export", "wallet.export_watch"),
    ),
    *_renamed(
        Named.PARAMETER,
        "a wallet is named by `wallet`, as by `--wallet`",
        ("wallet.*", "name", "wallet"),
    ),
    *_renamed(
        Named.PARAMETER,
        "what refers to a thing says which kind: `txid`, `coin`, `anchor`",
        ("chain.anchor", "id", "anchor"),
        ("chain.header", "id", "coin"),
        ("chain.raw", "id", "anchor"),
        ("chain.set_aside", "id", "anchor"),
        ("chain.take_back", "id", "anchor"),
        ("coin.get", "id", "coin"),
        ("coin.history", "id", "coin"),
        ("coin.proof", "id", "coin"),
        ("coin.raw", "id", "coin"),
        ("mempool.entry", "id", "txid"),
        ("transfer.get", "id", "txid"),
        ("transfer.raw", "id", "txid"),
    ),
    *_renamed(
        Named.PARAMETER,
        "`coin` is the id of one; encoded bytes are `raw`, as in `transfer.submit`",
        ("mine.submit", "coin", "raw"),
    ),
    *_renamed(
        Named.PARAMETER,
        "who is paid is a payee",
        ("Payment", "to", "payee"),
        ("wallet.sweep", "to", "payee"),
    ),
    *_renamed(
        Named.PARAMETER,
        "a peer is a `peer` everywhere, by its id or its address",
        ("net.ban", "who", "peer"),
        ("net.unban", "who", "peer"),
    ),
    *_renamed(
        Named.PARAMETER,
        "a height says of what, as in the results",
        ("wallet.restore", "birth", "birth_height"),
        ("wallet.htlc_create", "height", "refund_height"),
    ),
    *_renamed(
        Named.PARAMETER,
        "as `--new-passphrase-file` has it, and the present one as everywhere",
        ("wallet.change_passphrase", "old", "passphrase"),
        ("wallet.change_passphrase", "new", "new_passphrase"),
    ),
    *_renamed(
        Named.PARAMETER,
        "as the flag `--no-passphrase`",
        ("wallet.create", "allow_empty", "no_passphrase"),
        ("wallet.restore", "allow_empty", "no_passphrase"),
        ("wallet.change_passphrase", "allow_empty", "no_passphrase"),
    ),
    *_renamed(
        Named.PARAMETER,
        "the anchors within which to be included are a target, as in `send --target` "
        "(Bitcoin Core: conf_target)",
        ("mempool.fee_estimate", "anchors", "target"),
    ),
    *_renamed(
        Named.FIELD,
        "sums of money are amounts, whoever holds or pays them",
        ("CoinInfo", "value", "amount"),
        ("ContractInfo", "value", "amount"),
        ("InputInfo", "value", "amount"),
        ("MiningTemplate", "value", "amount"),
        ("OutputInfo", "value", "amount"),
        ("OwnCoin", "value", "amount"),
        ("Owned", "value", "amount"),
        ("Paid", "value", "amount"),
        ("ProofOfCoin", "value", "amount"),
        ("UnsignedOutput", "value", "amount"),
    ),
    *_renamed(
        Named.FIELD,
        "who is paid is a payee",
        ("Paid", "to", "payee"),
    ),
    *_renamed(
        Named.FIELD,
        "a wallet is named by `wallet`, a network by `network`",
        ("Created", "name", "wallet"),
        ("WalletEntry", "name", "wallet"),
        ("Params", "name", "network"),
    ),
    *_renamed(
        Named.FIELD,
        "grains per byte of size are a `fee_rate`, as the parameter",
        ("FeeEstimate", "rate", "fee_rate"),
        ("FeeEstimate", "minimum", "min_fee_rate"),
        ("MempoolEntry", "rate", "fee_rate"),
        ("MempoolInfo", "min_rate", "min_fee_rate"),
        ("TransferInfo", "rate", "fee_rate"),
    ),
    *_renamed(
        Named.FIELD,
        "as the parameter",
        ("FeeEstimate", "anchors", "target"),
    ),
    *_renamed(
        Named.FIELD,
        "hashes per second are a `hashrate`, the field's word",
        ("Advice", "rate", "hashrate"),
        ("Advice", "network_rate", "network_hashrate"),
        ("Alternative", "rate", "hashrate"),
        ("Benchmark", "rate", "hashrate"),
        ("MiningStatus", "rate", "hashrate"),
        ("MiningStatus", "rate_1m", "hashrate_1m"),
        ("MiningStatus", "rate_15m", "hashrate_15m"),
        ("NodeStatus", "rate", "hashrate"),
        ("WorkerInfo", "rate", "hashrate"),
    ),
    *_renamed(
        Named.FIELD,
        "how something stands is its `status`",
        ("Anchor", "standing", "status"),
        ("Fork", "standing", "status"),
        ("MiningStatus", "state", "status"),
        ("Sent", "state", "status"),
        ("SubmittedCoin", "outcome", "status"),
        ("WorkerInfo", "state", "status"),
    ),
    *_renamed(
        Named.FIELD,
        "why something was refused: `error` for programs, `reason` for people",
        ("RefusedInfo", "rule", "error"),
        ("RefusedInfo", "why", "reason"),
    ),
    *_renamed(
        Named.FIELD,
        "a height says of what, a moment ends in `time`, a duration in its unit",
        ("CoinInfo", "mature_at", "mature_height"),
        ("ConditionInfo", "height", "refund_height"),
        ("MempoolInfo", "expiry", "expiry_ms"),
        ("MiningTemplate", "least_time", "min_time"),
        ("Params", "birth", "birth_time"),
        ("Params", "epoch", "epoch_ms"),
        ("Params", "future_limit", "future_limit_ms"),
    ),
    *_renamed(
        Named.FIELD,
        "`coin` is the id of one; encoded bytes are `raw`",
        ("Raw", "coin", "raw"),
    ),
    *_renamed(
        Named.FIELD,
        "what is banned is an address, one or an IPv6 /64",
        ("BanInfo", "group", "address"),
    ),
    *_renamed(
        Named.COMMAND,
        "a command is called as the method that it calls",
        ("", "chain difficulty", "chain difficulty-history"),
        ("", "coin owned", "coin owned-by"),
        ("", "coin show", "coin get"),
        ("", "mempool fee", "mempool fee-estimate"),
        ("", "mempool show", "mempool entry"),
        ("", "mine workers", "mine set-workers"),
        ("", "net add", "net add-peer"),
        ("", "transfer show", "transfer get"),
        ("", "wallet bump", "wallet bump-fee"),
        ("", "wallet export", "wallet export-watch"),
        ("", "wallet passphrase", "wallet change-passphrase"),
        ("", "wallet watch-contract", "wallet contract add"),
    ),
    *_renamed(
        Named.FLAG,
        "a flag is called as the parameter that it gives",
        ("mempool list", "--by-time", "--sort time"),
        ("wallet rescan", "--from", "--height"),
        ("wallet send", "--payments", "--payees"),
        ("wallet restore", "--birth", "--birth-height"),
    ),
    *_renamed(
        Named.FLAG,
        "a file to be written is `--output`",
        ("coin proof", "--out", "--output"),
    ),
)
"""Every name that changed, those of one reason together."""


def find(named: Named, where: str, old: str) -> Renaming | None:
    """Return what became of the name `old` of something in `where` (empty for methods and
    commands), or None if it never was one."""
    for renaming in RENAMINGS:
        if renaming.named is named and renaming.old == old and fnmatchcase(where, renaming.where):
            return renaming
    return None


_HEAD: Final = """\
# Vocabulary

Generated by `python -m unchained.node.base.vocabulary`; do not edit.

One word for one thing, in methods, parameters, results, commands and flags. What the protocol
speaks of is in the [glossary](glossary.md); where Bitcoin Core or Monero have a word for the rest,
it is theirs.

- **A command is called as the method that it calls**, with `-` for `_`: `wallet.bump_fee` is
  `unchained-node wallet bump-fee`. Short ones: `status`, `stop`, `peers`, `rpc METHOD`.
- **A flag is called as the parameter that it gives**, with `-` for `_`: `fee_rate` is `--fee-rate`.
  A list is given by its flag in the singular, more than once: `coins` is `--coin ID --coin ID`.
- **A result's own id is `id`**, a transfer's `txid`. What refers to something says which kind:
  `coin`, `anchor`, `txid`, `parent`, `wallet`, `account`, `peer`, `lock`.
- **Money** is an `amount`, a decimal string in UNC; what a transfer costs its `fee`, and per byte
  of size its `fee_rate`, in grains. Who is paid is a `payee`.
- **A height** is `height` where there is one, else it says of what: `birth_height`,
  `refund_height`. **A moment** is `time` or ends in `_time`, in ms since 1970 (UTC); **a duration**
  ends in its unit (`_ms`, `_s`), or is called `seconds`, `minutes`.
- **A number** of things is their plural (`transfers`, `peers`), also where another result lists
  them; `confirmations` are counted in votes, less one for each coin that an anchor left out, and
  are no more than the votes by which known rivals trail.
- **How something stands** is its `status`; why something was refused is an `error` for programs and
  a `reason` for people. **Encoded bytes** are `raw`, a document to hand on is a `file`.
- **Hashes per second** are a `hashrate`.
- **`lock`** is what a coin lies under. The methods `wallet.lock` and `wallet.unlock` close and open
  the keys (Bitcoin Core: walletlock), and a wallet whose keys are closed is `locked`.
- **`target`** of a fee is the number of anchors within which a transfer should be included; of an
  anchor or a job it is that of the proof of work.

## Old names

An old name of a method, parameter, command or flag is answered with an error that names the new
one (METHOD_NOT_FOUND, INVALID_PARAMS, exit code 2).
"""


def document(renamings: Iterable[Renaming] = RENAMINGS) -> str:
    """Return docs/vocabulary.md."""
    lines = [_HEAD, "| what | where | old | new | why |", "|---|---|---|---|---|"]
    for row in renamings:
        where = f"`{row.where}`" if row.where else ""
        lines.append(f"| {row.named} | {where} | `{row.old}` | `{row.new}` | {row.why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
