"""Steps: a mapping with one verb, and the fields of that beside it. Which verbs there are is handed
in (model.Verbs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from builder.spec.base import ORIGIN
from builder.spec.conditions import COMMON
from builder.spec.fields import BAD, Reader, read_table, table_schema
from builder.spec.kinds import place
from builder.spec.model import BaseRef, Step, Verbs
from builder.spec.node import MAPPING, Node
from builder.spec.render import NeedsBase
from builder.spec.source import Fault, did_you_mean, quote


def read_step(reader: Reader, node: Node) -> Any:
    verbs = reader.verbs
    given = [key for key, _ in node.pairs if key.text in verbs]
    if not given:
        raise _no_step(reader, node)
    main = _main(verbs, given)
    if main is None:
        both = " and ".join(repr(key.text) for key in given)
        raise given[1].fault(f"{both} in one step, expected one verb", "make two steps of it")
    own = main.text
    verb = verbs[own]
    table = {**verb.suited(verb.fields(), node), **COMMON}
    value = node.get(own) or node
    if value.kind == MAPPING and not reader.trying:
        from builder.spec.words import of_options

        if found := of_options(reader, main, value):
            raise found
    foreign: dict[str, str] = {}
    if any(key.text not in table for key, _ in node.pairs):
        for name, other in verbs.items():
            for field in other.fields():
                if field not in table:
                    foreign[field] = (
                        f"{foreign[field]} and {name!r}" if field in foreign else f"{name!r}"
                    )
    values = read_table(reader, node, table, f"a {own!r} step", foreign)
    return BAD if values is None else verb.read(reader, node, values)


def _main(verbs: Verbs, given: Sequence[Node]) -> Node | None:
    """The verb of a step among its keys that are verbs: the others are fields of it."""
    if len(given) == 1:
        return given[0]
    for key in given:
        fields = verbs[key.text].fields()
        if all(other.text in fields for other in given):
            return key
    return None


def _no_step(reader: Reader, node: Node) -> Fault:
    from builder.spec.words import of_step, of_text

    verbs = reader.verbs
    only = f"a step needs one of: {', '.join(verbs)}"
    if node.kind != MAPPING:
        meant = None if reader.trying else of_text(reader, node)
        return meant or node.fault(f"found {node.show()}, expected a step", only)
    keys = {key.text for key, _ in node.pairs} - COMMON.keys()
    # whose options all of them are; a single one may be another place's word
    owners = [name for name, verb in verbs.items() if keys <= verb.fields().keys()]
    if len(owners) == 1 and len(keys) > 1:
        return node.fault(f"a {owners[0]!r} step without {owners[0]!r}", f"write {owners[0]}: ...")
    known = {*verbs, *(name for verb in verbs.values() for name in verb.fields())}
    for key, value in () if reader.trying else node.pairs:
        if key.text != "name" and (found := of_step(reader, key, value)):
            return found
        if key.text in known:
            continue
        if near := did_you_mean(key.text, list(verbs), partial(_begins, reader, value)):
            return key.fault(f"unknown step {quote(key.text)}{near}", only)
    return node.fault("a step without a verb", only)


def waiting_step(reader: Reader, node: Node) -> Step:
    """In the place of a step that names the base, until that is known."""
    given = [key for key, _ in node.pairs if key.text in reader.verbs]
    verb = (_main(reader.verbs, given) or given[0]).text
    at, name = node.get(verb) or node, node.get("name")
    shown = name.text if name else " ".join((verb, *at.text.split()))
    return reader.verbs[verb].waiting(place(reader, at), shown, _origins(reader, verb, node))


def _origins(reader: Reader, verb: str, node: Node) -> tuple[BaseRef, ...]:
    """The images that a step takes files from, which are known before its base is. Raises Fault."""
    fields, found = reader.verbs[verb].fields(), []
    named = [node.get("from")] if "from" in fields else []
    mounts = node.get("mounts") if "mounts" in fields else None
    for mount in mounts.items if mounts else ():
        named += [mount.get("from"), mount.get("seed")]
    for at in filter(None, named):
        try:
            found.append(ORIGIN.read(reader, at))
        except NeedsBase:
            raise at.fault(
                "what the base says cannot name the image to copy from, which is read before it"
            ) from None
    return tuple(each for each in found if each is not BAD)


def verb_schemas(verbs: Verbs) -> Mapping[str, Any]:
    """The schema of each verb's step."""
    return {
        name: {"description": verb.doc, **table_schema({**verb.fields(), **COMMON})}
        for name, verb in verbs.items()
    }


def _begins(reader: Reader, value: Node, verb: str) -> bool:
    """Whether the verb takes the value."""
    return reader.fits(reader.verbs[verb].fields()[verb].kind, value)
