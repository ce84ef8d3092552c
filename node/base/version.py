"""The version, which to ask the installed package for takes longer than to print it."""

from __future__ import annotations

from typing import Final

NODE_VERSION: Final = "0.1.0"
"""As pyproject.toml has it."""
