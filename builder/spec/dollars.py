"""`$NAME` where no shell reads it, as Dockerfiles say it, and the template that says it here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from builder.spec.node import TEXT, Node
from builder.spec.source import Fault, quote, written
from builder.spec.syntax import Malformed

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^{}$'\\]*))?\})")
_ANY = re.compile(r"\$(?:[A-Za-z_]|\{[A-Za-z_])")
_NAMED = ("env", "labels")  # mappings of free names
_PLACES = ("dest", "file", "directory", "symlink", "remove", "user", "owner", "working_dir")


def names_one(text: str) -> bool:
    return _ANY.search(text) is not None


def as_template(text: str, variables: Collection[str]) -> str | None:
    """The text with templates for variables: those of the spec, else the base's environment, where
    one that is missing is empty, as in a Dockerfile. None: it is more than that."""

    def template(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name in variables:
            what, there = name, True
        else:
            what, there = f"base.env.{name}", name == "PATH"
        default = found[3] if found[3] is not None or there else ""
        return (
            f"{{{{ {what} }}}}" if default is None else f"{{{{ {what} | default('{default}') }}}}"
        )

    made = _VARIABLE.sub(template, text)
    return None if names_one(made) else made


def hint(text: str, variables: Collection[str], own: Collection[str] = ()) -> str | None:
    """What to write instead; `own` are names that the spec sets itself, which no template sees."""
    names = [found[1] or found[2] for found in _VARIABLE.finditer(text)]
    moved = [name for name in dict.fromkeys(names) if name in own and name not in variables]
    made = as_template(text, {*variables, *moved})
    if made is None or len(made) >= 200:
        return None
    first = f"give {' and '.join(moved)} a value in 'vars', and " if moved else ""
    return f"{first}write {written(made)}"


def check_path(text: str, variables: Collection[str]) -> None:
    """Of PATH in an environment. Raises Malformed."""
    if names_one(text):
        raise Malformed(
            "names a variable, which no shell reads here; folders in front of the PATH there is"
            " are config's 'path'",
            hint(text, variables),
        )


def dollars(top: Node, variables: Collection[str]) -> Iterator[Fault]:
    """Warnings about such values of a spec."""
    config, steps = top.get("config"), top.get("steps") or top
    lists = [steps, *(each for key, each in steps.pairs if key.text in ("prepend", "append"))]
    entries = [step for each in lists for step in each.items]
    tables = [*([config] if config else ()), *entries]
    for step in entries:  # `set` has its options in a mapping of its own
        tables += [value for key, value in step.pairs if key.text not in (*_NAMED, "vars")]
    set_here = [env for table in tables if (env := table.get("env"))]
    own = {key.text for env in set_here for key, _ in env.pairs} - {"PATH"}
    for table in tables:
        values = [table.get(name) for name in _PLACES]
        for name in _NAMED:
            pairs = table.get(name)
            # PATH is an error already
            values += [v for k, v in (pairs.pairs if pairs else ()) if k.text != "PATH"]
        for value in values:
            for each in (value.items or [value]) if value else ():
                if each.kind == TEXT and names_one(each.text):
                    message = f"{quote(each.text)} names a variable, which no shell reads here"
                    yield each.fault(message, hint(each.text, variables, own))
