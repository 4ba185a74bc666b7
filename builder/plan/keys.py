"""Cache keys: the canonical document of what a step does to what, hashed once.

A file step's document is its layer's content; it does not hold what lies below. A command step's
holds the chain_id it runs on. Nothing else may reach a layer, so nothing else is in a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.executor.base import Command
from builder.oci.digest import CacheKey, ChainID, hex_of
from builder.oci.image import Platform, encode

KEY_VERSION = 1
"""Raised whenever the same document would make another layer than before."""


def files_document(content: dict[str, Any], platform: Platform) -> dict[str, Any]:
    return {"version": KEY_VERSION, "kind": "files", "platform": str(platform), **content}


def run_document(command: Command, parent: ChainID, platform: Platform) -> dict[str, Any]:
    return {
        "version": KEY_VERSION,
        "kind": "run",
        "platform": str(platform),
        "parent": parent,
        "command": list(command.argv),
        "env": dict(command.env),
        "user": [command.uid, command.gid, *command.groups],
        "working_dir": command.working_dir,
        "network": command.network,
    }


def key_of(document: dict[str, Any]) -> CacheKey:
    return CacheKey(hex_of(encode(document)))
