from __future__ import annotations

import inspect

import pytest

from unchained.node.cli import contract, invoice, pay, proofs, token
from unchained.node.cli.command_words import CommandWords


def _words(name: str, function: object) -> CommandWords:
    signature = inspect.signature(function, eval_str=True)  # type: ignore[arg-type]
    return CommandWords(name, list(signature.parameters.values())[1:])


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("expected a text - at `payments[0].payee`", "PAYEE: expected a text"),
        ("'x' is no amount - at `payments[0].amount`", "UNC: 'x' is no amount"),
        ("'x' is no amount - at `payments[2].amount`", "UNC of payment 3: 'x' is no amount"),
        ("too long - at `payments[0].memo`", "--memo: too long"),
        ("expected x, got 'y' - at `fee_rate`", "--fee-rate: expected x, got 'y'"),
        ("expected x, got 'y' - at `coins[3]`", "--coin: expected x, got 'y'"),
        ("expected x, got 'y' - at `elsewhere`", "elsewhere: expected x, got 'y'"),
    ],
)
def test_what_is_wrong_with_a_payment_is_said_of_the_arguments(said: str, shown: str) -> None:
    assert _words("send", pay.send).translate("wallet.send", said).startswith(shown)


@pytest.mark.parametrize(
    ("words", "method", "said", "shown"),
    [
        (
            _words("get-invoice", invoice.get_invoice),
            "wallet.get_invoice",
            "expected 16 lower-case hex digits, got 'x' - at `invoice`",
            "expected 16 hex digits, or the first four or more of them, got 'x'",
        ),
        (
            _words("revoke", token.revoke),
            "token.revoke",
            "expected 16 lower-case hex digits, got 'x' - at `token`",
            "expected 16 hex digits, or the first four or more of them, got 'x'",
        ),
    ],
)
def test_a_parameter_is_called_as_on_the_command_line(
    words: CommandWords, method: str, said: str, shown: str
) -> None:
    assert words.translate(method, said) == f"ID: {shown}"


def test_only_of_what_is_known_the_first_digits_do() -> None:
    said = "expected 64 lower-case hex digits, got 'zz' - at `{}`"
    short = "expected 64 hex digits, or the first four or more of them, got 'zz'"
    for function, name in (
        (proofs.receipt, "txid"),
        (contract.contract_info, "lock"),
        (pay.send, "coins[0]"),
    ):
        assert short in _words("x", function).translate("wallet.x", said.format(name))
    for name in ("hash", "preimage"):
        claim = _words("claim", contract.htlc_claim)
        assert short not in claim.translate("wallet.htlc_claim", said.format(name))
    again = _words("invoice", invoice.invoice)
    kept = "expected 16 lower-case hex digits, got 'x'"
    assert kept in again.translate("wallet.invoice", f"{kept} - at `invoice`")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("there is no anchor at height 9: see chain.tip", "see `chain tip`"),
        ("set it, or see chain.set_aside", "see `chain set-aside`"),
        ("no peer 12D3 is connected: see net.peers", "see `peers`"),
        ("there is no token 00: see token.list", "see `token list`"),
    ],
)
def test_a_hint_names_the_command(said: str, shown: str) -> None:
    assert CommandWords("anchor", ()).translate("chain.anchor_at", said).endswith(shown)


def test_what_is_said_of_a_method_that_was_named_stays_as_it_is() -> None:
    words = CommandWords("rpc", ())
    for method, said in (
        ("nosuch", "there is no method 'nosuch': rpc.discover lists the methods"),
        ("chain.tip", "chain.tip has 0 parameters, not 1: it takes none"),
    ):
        assert words.translate(method, said) == said
