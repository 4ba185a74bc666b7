"""A report on an image, or on two beside one another: one HTML file that needs no network.

Python gathers the numbers into one JSON document, and `report.html` draws it. What files and steps
are called is data there and never markup: the page puts it in by `textContent`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.layer.entry import DIRECTORY
from builder.look.ledger import How, Ledger, Node, Waste, ledger
from builder.look.packages import find_packages
from builder.look.tree import Tree
from builder.oci.digest import CacheKey
from builder.plan.last import LastBuild, LastStep, load_last
from builder.store.records import load_record

if TYPE_CHECKING:
    from builder.oci.image import Descriptor, Image
    from builder.rootfs.layers import Layers
    from builder.store.store import Store

_WASTED = 200  # files that are listed of those that are wasted
_SETTINGS = (
    "User", "WorkingDir", "Entrypoint", "Cmd", "Env", "ExposedPorts", "Volumes", "Labels",
    "StopSignal", "Shell", "Healthcheck", "OnBuild",
)  # fmt: skip
_ADVICE = {
    How.REMOVED: "Remove files in the step that makes them: a later step hides them, and their"
    " bytes stay in the layer below.",
    How.WRITTEN_AGAIN: "Write each file once: leave it out of the earlier step, or join the steps.",
    How.ATTRIBUTES: "Give `owner` and `mode` in the step that writes the files: chmod and chown in"
    " a later one hold the whole of each a second time.",
}


class Subject(NamedTuple):
    """An image to report on. `name` is what it was asked for as."""

    name: str
    image: Image
    manifest: Descriptor


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """The page about one image or two, as `document` tells of each."""
    # within a script element only `<` can mean anything
    data = json.dumps({"images": documents}, separators=(",", ":")).replace("<", "\\u003c")
    text = resources.files("builder.look").joinpath("report.html").read_text(encoding="utf-8")
    before, mark, after = text.partition("/*DATA*/")
    assert mark
    return before + data + after


def document(layers: Layers, subject: Subject) -> dict[str, Any]:
    """The numbers of an image, as JSON has them; report.html tells what for. Raises BuilderError,
    where a layer's bytes cannot be had."""
    image = subject.image
    found = ledger(layers, image.layers)
    packages = find_packages(Tree(layers, image.layers))
    numbers = {id(package): number for number, package in enumerate(packages.found)}
    owners = {path: numbers[id(package)] for path, package in packages.owners().items()}
    last = _last_build(layers.store, subject.manifest)
    return {
        "name": subject.name,
        "digest": subject.manifest.digest,
        "platform": str(image.platform),
        "created": image.config.get("created"),
        "layers": [
            {"digest": layer.blob.digest, "size": layer.blob.size, "bytes": size, "files": files}
            for layer, size, files in zip(image.layers, found.written, found.files, strict=True)
        ],
        "steps": _steps(layers.store, image, last),
        "built": last.created if last else None,
        "tree": _tree(found.root, owners),
        "packages": [[each.name, each.version, each.kind] for each in packages.found],
        "unread": packages.unread,
        "waste": _wasted(found),
        "config": _config(image.config.get("config") or {}),
    }


# -- steps -----------------------------------------------------------------------------------------


def _last_build(store: Store, manifest: Descriptor) -> LastBuild | None:
    """The last build of a spec that gave this image, if it is in the store's memory."""
    for name, found in store.names().items():
        last = load_last(store, name) if name.project else None
        if last and (found.digest == manifest.digest or last.manifest == manifest.digest):
            return last
    return None


def _steps(store: Store, image: Image, last: LastBuild | None) -> list[dict[str, Any]]:
    """What the history says, the first step first, with what is known of how each was made."""
    own = {step.diff_id: step for step in last.steps if step.diff_id} if last else {}
    waiting = list(enumerate(image.layers))[::-1]
    steps = []
    for entry in image.config.get("history") or ():
        number, layer = (None, None) if entry.get("empty_layer") or not waiting else waiting.pop()
        steps.append(_step(store, entry, number, own.get(layer.diff_id) if layer else None, last))
    steps += [_step(store, {}, number, None, last) for number, _ in waiting[::-1]]
    return steps


def _step(
    store: Store,
    entry: Mapping[str, Any],
    number: int | None,
    known: LastStep | None,
    last: LastBuild | None,
) -> dict[str, Any]:
    command = str(entry.get("created_by") or "")
    name = known.name if known else str(entry.get("comment") or "")
    step: dict[str, Any] = {
        "layer": number,
        "name": name or command or "(no history)",
        "command": command,
    }
    if known and last and (record := load_record(store, CacheKey(known.key))):
        step |= {
            "seconds": record.seconds,
            "made": record.created,
            "hit": known.built < last.created,
            "why": known.why,
        }
    return step


# -- files -----------------------------------------------------------------------------------------


def _tree(root: Node, owners: Mapping[bytes, int]) -> list[Any]:
    """A folder is [name, children], a file [name, bytes, layer, package]: the numbers are places
    in `layers` and `packages`, -1 for none."""
    top: list[Any] = ["", []]
    waiting: list[tuple[bytes, Node, list[Any]]] = [(b"", root, top)]
    while waiting:
        path, node, made = waiting.pop()
        for name, child in sorted(node.children.items()):
            inner = path + b"/" + name if path else name
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            if child.entry.type == DIRECTORY:
                folder: list[Any] = [shown, []]
                made[1].append(folder)
                waiting.append((inner, child, folder))
            elif child.size:
                made[1].append([shown, child.size, child.layer, owners.get(inner, -1)])
    return top


def _wasted(found: Ledger) -> dict[str, Any]:
    """By what is to blame: the step that hides and how, with the step that wrote."""
    groups: dict[tuple[int, int, How], list[Waste]] = {}
    for each in found.waste:
        groups.setdefault((each.hidden, each.written, each.how), []).append(each)
    listed: list[dict[str, Any]] = [
        {
            "hidden": hidden,
            "written": written,
            "how": how.value,
            "advice": _ADVICE[how],
            "bytes": sum(each.size for each in group),
            "count": len(group),
            "files": [[_shown(each.path), each.size] for each in group[:_WASTED]],
        }
        for (hidden, written, how), group in groups.items()
    ]
    listed.sort(key=lambda each: -each["bytes"])
    return {"bytes": sum(each.size for each in found.waste), "groups": listed}


def _shown(path: bytes) -> str:
    return "/" + path.decode("utf-8", "backslashreplace")


def _config(config: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name in _SETTINGS:
        value = config.get(name)
        if value in (None, "", [], {}):
            continue
        if name == "Env" and isinstance(value, list):
            rows += [["Env", str(each)] for each in value]
        elif isinstance(value, Mapping) and name in ("Labels", "ExposedPorts", "Volumes"):
            rows += [[name, f"{key}={each}" if name == "Labels" else str(key)]
                     for key, each in value.items()]  # fmt: skip
        else:
            rows.append([name, value if isinstance(value, str) else json.dumps(value)])
    return rows
