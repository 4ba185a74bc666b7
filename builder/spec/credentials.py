"""`env('TOKEN')`: what it gives may end in the image, and a secret has a place of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.spec.node import TEXT, Node
from builder.spec.source import Fault, quote
from builder.spec.syntax import NAME

_ASKED = re.compile(r"""\benv\(\s*(['"])([A-Za-z_][A-Za-z0-9_]*)\1""")
_WORDS = {
    *("TOKEN", "TOKENS", "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PWD", "PAT", "SECRET"),
    *("SECRETS", "KEY", "APIKEY", "CREDENTIAL", "CREDENTIALS"),
}
_ENDS = ("TOKEN", "PASSWORD", "SECRET", "APIKEY")


def is_credential(variable: str) -> bool:
    """Whether a variable is named as one that holds a password, a token or a key."""
    words = variable.upper().split("_")
    if "PUBLIC" in words or words in (["PWD"], ["SSH", "AUTH", "SOCK"]):
        return False
    return not _WORDS.isdisjoint(words) or words[-1].endswith(_ENDS)


def credentials(top: Node) -> Iterator[Fault]:
    """Warnings about templates of a spec that ask for such variables, each once a text."""
    waiting = [top]
    while waiting:
        node = waiting.pop()
        waiting += [*(value for _, value in node.pairs[::-1]), *node.items[::-1]]
        if node.kind != TEXT or "env(" not in node.text:
            continue
        for variable in dict.fromkeys(found[2] for found in _ASKED.finditer(node.text)):
            if is_credential(variable):
                yield node.fault(
                    f"env({quote(variable)}) gives a credential to the spec", _hint(variable)
                )


def _hint(variable: str) -> str:
    name = variable.lower().lstrip("_")
    if not re.fullmatch(NAME, name):
        name = "token"
    return (
        f"give it to the step alone: mounts: [{{secret: {name}, env: {variable}}}],"
        f" and --secret {name}=env:{variable}"
    )
