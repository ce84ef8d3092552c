"""How a person is shown whom to pay: as a text, by its fingerprint, as a QR code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer

from unchained.node.cli.asker import Asker, CommandFailedError
from unchained.node.cli.output_file import check_output

FINGERPRINT_FROM: Final = 100
"""Characters above which a payee is compared by its fingerprint."""


def show_receiving(
    node: Asker, ask: Callable[[], dict[str, Any]], qr: bool, png: Path | None, *, uri: bool
) -> dict[str, Any]:
    """Show a person whom to pay, by a payment URI or by the bare text, and return what was found
    by asking. Raises `CommandFailedError`; that a picture cannot be written before it is asked:
    nothing is made in vain."""
    if png is not None:
        check_output(png)
    found = ask()

    def human() -> None:
        typer.echo(found["uri"] if uri else found["text"])
        if len(found["text"]) > FINGERPRINT_FROM:
            typer.echo(f"fingerprint {found['fingerprint']}", err=True)

    node.show(found, human)
    if not (qr or png):
        return found
    from unchained.node.wallet.payment_request import TooLongForQrError, qr_png, qr_terminal

    try:
        if qr and not node.json:
            typer.echo(qr_terminal(found["uri"]))
        if png is not None:
            qr_png(found["uri"], png)
    except TooLongForQrError as error:
        raise CommandFailedError(str(error)) from None
    except OSError as error:
        raise CommandFailedError(f"{png}: {error.strerror}") from None
    return found
