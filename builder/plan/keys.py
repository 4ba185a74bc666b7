"""Cache keys: the canonical document of what a step does to what, hashed once.

A file step's document is its layer's content; it does not hold what lies below. A command step's
holds the chain_id it runs on. Nothing else may reach a layer, so nothing else is in a key.

A document is one line of canonical JSON; behind a file step's stand the lines of its changes
(`plan.changes.line`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder.oci.digest import CacheKey, ChainID, hasher, hex_of
from builder.oci.image import Platform, encode
from builder.spec.model import FromEnv, shown

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.plan.changes import Changes

KEY_VERSION = 5
"""Raised whenever the same document would make another layer than before."""

MANY = 200_000
"""Changes. The document of a file step with more is hashed, but neither held nor kept: `why` cannot
tell then what changed in it."""


def files_document(lines: Iterable[bytes], platform: Platform) -> bytes:
    return files_head(platform) + b"".join(lines)


def key_of_changes(changes: Changes, platform: Platform) -> tuple[CacheKey, bytes | None]:
    """The key of a file step, and its document where that is held."""
    if len(changes.rows) > MANY:
        return key_of_files(changes.lines(), platform), None
    document = files_document(changes.lines(), platform)
    return key_of(document), document


def key_of_files(lines: Iterable[bytes], platform: Platform) -> CacheKey:
    """The key of the same document, which is never held as a whole."""
    running = hasher(files_head(platform))
    for each in lines:
        running.update(each)
    return CacheKey(running.hexdigest())


def files_head(platform: Platform | str) -> bytes:
    head = {"version": KEY_VERSION, "kind": "files", "platform": str(platform)}
    return encode(head) + b"\n"


def run_document(
    command: Command,
    clamp: int,
    parent: ChainID,
    platform: Platform,
    executor: str = "",
    mounts: Sequence[Sequence[Any]] = (),
    rotated: Mapping[str, str] = {},
) -> bytes:
    """`clamp`: the latest time of what the command writes (clock.command_time). `executor`: one
    that the command can tell from a sandbox. `mounts`: plan.mounts.documents. `rotated`: what
    stands for the values of secrets, by name. What env() had a part in stands there as what may be
    kept of it, and one digest of it all."""
    document: dict[str, Any] = {
        **({"executor": executor} if executor else {}),
        "version": KEY_VERSION,
        "kind": "run",
        "platform": str(platform),
        "parent": parent,
        "command": list(map(shown, command.argv)),
        "env": {name: shown(value) for name, value in command.env.items()},
        "user": [command.uid, command.gid, *command.groups],
        "working_dir": command.working_dir,
        "folder": list(command.folder_owner),
        "network": command.network,
        "times": clamp,
    }
    if mounts:
        document["mounts"] = mounts
    if rotated:
        document["secrets"] = dict(rotated)
    if any(isinstance(text, FromEnv) for text in (*command.argv, *command.env.values())):
        document["from_env"] = hex_of(encode([list(command.argv), dict(command.env)]))
    return encode(document)


def key_of(document: bytes) -> CacheKey:
    return CacheKey(hex_of(document))


def parse(document: bytes) -> dict[str, Any]:
    """A document's fields; of a file step also `entries`: path -> the rest of its line. Raises
    ValueError when it is not one."""
    head, _, listing = document.partition(b"\n")
    fields = json.loads(head.decode("utf-8", "surrogateescape"))
    if not isinstance(fields, dict):
        raise ValueError("not a document")
    if fields.get("kind") == "files":
        parts = listing.split(b"\0")
        fields["entries"] = dict(zip(parts[:-1:2], parts[1::2], strict=True))
    return fields
