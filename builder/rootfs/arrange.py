"""What one layer's paths add up to: sorted, whiteouts apart, folders implied; or refused."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from builder.errors import LayerError
from builder.layer.entry import OPAQUE, WHITEOUT

MAX_LINKS = 40  # hard links to hard links followed


def key_of(path: bytes) -> bytes:
    """Sorting by this puts a folder's subtree directly behind it (NUL is in no path)."""
    return path.replace(b"/", b"\0")


class Sides:
    """Collects what stands beside the records while a layer's entries pass."""

    def __init__(self) -> None:
        self.whiteouts: set[bytes] = set()
        self.opaque: set[bytes] = set()
        self.parents: set[bytes] = set()  # parents of whiteouts: they exist in the layer

    def take(self, path: bytes) -> bool:
        """Whether `path` is a whiteout; then it is noted here and is no entry."""
        folder, _, name = path.rpartition(b"/")
        if not name.startswith(WHITEOUT):
            return False
        if name == OPAQUE:
            self.opaque.add(folder)
        else:
            name = name[len(WHITEOUT) :]
            self.whiteouts.add(folder + b"/" + name if folder else name)
        self.parents.add(folder)
        return True


def ancestors(path: bytes) -> Iterator[bytes]:
    """Proper ancestors from the nearest to the root b""."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def arrange(keys: list[bytes], sides: Sides) -> tuple[array[int], set[bytes]]:
    """Positions in sorted order, one per path, and the folders that have no entry of their own."""
    order: array[int] = array("Q")
    implied: set[bytes] = set()
    stack: list[bytes] = []  # keys of the open folders, each with a trailing NUL; root is implicit
    previous = b""
    root_seen = False
    for key in keys:
        name, tail = key[:-10], int.from_bytes(key[-8:], "big")
        if name == previous and len(order):
            order[-1] = tail >> 1
            if stack and stack[-1] == name + b"\0":
                stack.pop()
        else:
            order.append(tail >> 1)
            while stack and not name.startswith(stack[-1]):
                stack.pop()
            above = stack[-1] if stack else b""
            missing = name[len(above) :].split(b"\0")[:-1]
            for part in missing:
                above += part + b"\0"
                folder = above[:-1]
                if folder == previous:
                    raise LayerError(
                        f"entry {_shown(path_of(name))} lies below {_shown(path_of(folder))}, "
                        "which is not a directory in the same layer"
                    )
                implied.add(path_of(folder))
                stack.append(above)
        if tail & 1 and name:
            stack.append(name + b"\0")
        root_seen = root_seen or not name
        previous = name
    for folder in sides.parents:
        for each in (folder, *ancestors(folder)):
            if each and _find(keys, each) is None:
                implied.add(each)
            elif each and not _is_directory(keys, each):
                raise LayerError(
                    f"a whiteout lies below {_shown(each)}, "
                    "which is not a directory in the same layer"
                )
    if not root_seen:
        implied.add(b"")
    return order, implied


def path_of(key: bytes) -> bytes:
    return key.replace(b"\0", b"/")


def _shown(path: bytes) -> str:
    return repr(os.fsdecode(path))


def _find(keys: list[bytes], path: bytes) -> int | None:
    """Index of the last of the sorted keys that means `path`."""
    key = key_of(path)
    index = bisect_right(keys, key + b"\0\0" + b"\xff" * 8) - 1
    return index if index >= 0 and keys[index][:-10] == key else None


def _is_directory(keys: list[bytes], path: bytes) -> bool:
    index = _find(keys, path)
    return index is not None and bool(keys[index][-1] & 1)


def check_links(keys: list[bytes], links: list[tuple[bytes, bytes]]) -> None:
    """Refuse hard links to folders and to files of other layers, as Docker and containerd do."""
    targets = dict(links)
    for path, target in links:
        for _ in range(MAX_LINKS):
            if target not in targets:
                break
            target = targets[target]
        if target in targets or _find(keys, target) is None or _is_directory(keys, target):
            raise LayerError(
                f"hard link {_shown(path)} points at {_shown(target)}, "
                "which is no file of the same layer"
            )
