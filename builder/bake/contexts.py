"""What stands in a target's `contexts`, in the tree of the spec that its Dockerfile became."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

from builder.bake.values import Val
from builder.dockerfile.nodes import mapping, put, template, text, texts
from builder.spec.node import LIST, MAPPING, TEXT, Node

_HUB = ("docker.io/library/", "docker.io/", "index.docker.io/library/", "library/")


def replace(
    top: Node,
    contexts: dict[str, Val],
    image: Callable[[str], str | None],
    folder: Callable[[str], str],
    known: Callable[[str], str],
) -> Iterator[tuple[str, str]]:
    """Every `from` that a context stands for becomes what that is. `image` gives the spec of a
    target, `folder` a path from the project's folder, `known` what a template is by default. Gives
    what is left as it is, and why."""
    for name, value in contexts.items():
        text_of = str(value.data)
        kind, _, rest = text_of.partition(":")
        if kind == "target" and (spec := image(rest)):
            base = f"image:{spec}"
        elif text_of.startswith("docker-image://"):
            base = template(value.parts if value.sayable else (text_of,))[len("docker-image://") :]
        elif text_of.startswith("oci-layout://"):
            base = "oci:" + os.path.normpath(text_of[len("oci-layout://") :])
        elif kind == "target":
            yield name, f"target {rest} is no image here"
            continue
        elif "://" in text_of or text_of.startswith("git@"):
            yield name, f"{text_of} is not fetched"
            continue
        else:
            base = f"stage:{_stage(top, name, folder(text_of))}"
        for key, found in _bases(top):
            if _means(known(found.text), name):
                at = (found.line, found.column)
                put(key, "from", text(base, at, ready=True), at)


def _stage(top: Node, name: str, folder: str) -> str:
    """A stage that holds the files of a folder, as Docker sees a context."""
    at = (top.line, top.column)
    copy = mapping({"copy": ".", "dest": "/", "preserve": texts(("mode", "mtime"), at)}, at)
    steps = Node(LIST, *at)
    steps.items = [copy]
    body = mapping({"from": "scratch", "context": folder, "steps": steps}, at)
    stages = top.get("stages")
    if stages is None:
        stages = Node(MAPPING, *at)
        put(top, "stages", stages, at)
    called = "context-" + "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower())
    put(stages, called, body, at)
    return called


def _bases(node: Node) -> Iterator[tuple[Node, Node]]:
    """Mappings that have a `from`, and its text."""
    for key, value in list(node.pairs):
        if key.text == "from" and value.kind == TEXT:
            yield node, value
        else:
            yield from _bases(value)
    for item in node.items:
        yield from _bases(item)


def _means(base: str, name: str) -> bool:
    base, name = base.removeprefix("stage:").lower(), name.lower()
    return _short(base) == _short(name)


def _short(reference: str) -> str:
    for start in _HUB:
        if reference.startswith(start):
            reference = reference[len(start) :]
            break
    return reference.removesuffix(":latest")


def _may_be(template: str, text: str) -> bool:
    """Whether a template could give a text."""
    parts = re.split(r"\{\{.*?\}\}|\{%.*?%\}", template)
    return len(parts) > 3 or bool(re.fullmatch(".*".join(map(re.escape, parts)), text))


def prune(top: Node) -> None:
    """Without the stages that nothing of the image needs."""
    stages = top.get("stages")
    if stages is None:
        return
    bodies = {key.text: value for key, value in stages.pairs}
    needed: set[str] = set()
    waiting = [value for key, value in top.pairs if key.text != "stages"]
    first = top.get("from")
    found = [first.text] if first else []
    while waiting or found:
        for node in waiting:
            found += [base.text for _, base in _bases(node)]
        waiting = []
        for base in found:
            for name in bodies.keys() - needed:
                if _may_be(base, f"stage:{name}"):
                    needed.add(name)
                    waiting.append(bodies[name])
        found = []
    stages.pairs = [(key, value) for key, value in stages.pairs if key.text in needed]
    if not stages.pairs:
        top.pairs = [(key, value) for key, value in top.pairs if key.text != "stages"]
