"""Spilled rows: more entries of a layer than memory should hold, on disk."""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Sequence

from builder.layer.beneath import Beneath
from builder.layer.entry import Content, Entry, HostFile
from builder.layer.sorter import Pile
from builder.layer.write import sort_key

Row = tuple[Entry, Content, bytes]
"""An entry of a layer, with its content and, of a FILE, the raw sha256 of that; b"" while it is
not known."""

_TOGETHER = 2000  # rows in a block


class Spilled:
    """Rows in a layer's order, with no content but host files of one context."""

    def __init__(self, *, closed: bool = False) -> None:
        self.closed = closed
        """Nothing more is taken."""
        self.around: frozenset[bytes] = frozenset()
        """The last path and the folders around it."""
        self._rows = Pile()
        self._beneath: Beneath | None = None  # where all host files lie
        self._count = 0
        self._last = b""  # its key

    def __len__(self) -> int:
        return self._count

    def take(self, rows: Sequence[Row]) -> bool:
        """Add rows; False, and none is added, when they do not all come behind those that are
        there."""
        if not rows:
            return True
        if self._count and sort_key(rows[0][0][0]) <= self._last:
            return False
        if self._beneath is None:
            files = (content for _, content, _ in rows if isinstance(content, HostFile))
            self._beneath = next((file.beneath for file in files), None)
        for at in range(0, len(rows), _TOGETHER):
            block = [
                (tuple(entry), content[0] if isinstance(content, HostFile) else None, digest)
                for entry, content, digest in rows[at : at + _TOGETHER]
            ]
            self._rows.append(marshal.dumps(block, 2))
        last = rows[-1][0][0]
        self._count += len(rows)
        self._last = sort_key(last)
        parts = last.split(b"/")
        self.around = frozenset(b"/".join(parts[: end + 1]) for end in range(len(parts)))
        return True

    def __iter__(self) -> Iterator[Row]:
        make = tuple.__new__  # thrice as fast as the named tuples' own, in a loop over all files
        for number in range(len(self._rows)):
            block = marshal.loads(self._rows[number])  # noqa: S302  # our own, see Pile
            for entry, host, digest in block:
                content = None
                if host is not None:
                    content = make(HostFile, (host, digest or None, self._beneath))
                yield make(Entry, entry), content, digest
