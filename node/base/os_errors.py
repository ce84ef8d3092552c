"""What the operating system refused, for people."""

from __future__ import annotations


def os_error_line(error: OSError) -> str:
    """Return one line that names the file, where there is one, and what was wrong with it."""
    reason = " ".join((error.strerror or str(error) or type(error).__name__).split())
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' to '.join(names)}: {reason}" if names else reason
