"""Pages of ranges in memory, with a count of what is asked and written."""

from __future__ import annotations


class MemoryPages:
    """A `Pages` over a dict."""

    def __init__(self) -> None:
        self.pages: dict[tuple[int, int], bytes] = {}
        self.got: list[tuple[int, int]] = []
        self.put_keys: list[tuple[int, int]] = []
        self.deleted: list[tuple[int, int]] = []

    def get(self, level: int, index: int) -> bytes | None:
        self.got.append((level, index))
        return self.pages.get((level, index))

    def put(self, level: int, index: int, page: bytes) -> None:
        self.put_keys.append((level, index))
        self.pages[level, index] = page

    def delete(self, level: int, index: int) -> None:
        self.deleted.append((level, index))
        self.pages.pop((level, index), None)

    def forget(self) -> None:
        """Count anew."""
        self.got.clear()
        self.put_keys.clear()
        self.deleted.clear()
