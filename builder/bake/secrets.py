"""Secrets as bake and compose files write them."""

from __future__ import annotations

from builder.bake.values import Val


def secret_of(value: Val) -> tuple[str, dict[str, str]] | None:
    """The name of a secret, and who gives it as the project file says it: `id=NAME,src=FILE`,
    `type=env,id=NAME,env=VARIABLE`, or an object of these words. None: it has no name."""
    if isinstance(value.data, dict):
        words = {key: str(each.data) for key, each in value.data.items() if each.data is not None}
    else:
        parts = [each.partition("=") for each in str(value.data).split(",")]
        words = {key.strip(): text for key, equals, text in parts if equals}
    name = words.get("id")
    if not name:
        return None
    source = words.get("src") or words.get("source")
    variable = words.get("env") or (source if words.get("type") == "env" else None)
    if variable or not source:
        return name, {"env": variable or name}
    return name, {"file": source}
