"""`builder diff`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from builder.cli import screen, wiring
from builder.cli.outside import look
from builder.cli.wanted import Wanted
from builder.errors import UsageError
from builder.events import ignore
from builder.layer.entry import BLOCK, CHAR, DIRECTORY, FIFO, FILE, SYMLINK, Entry
from builder.look.diff import (
    ConfigChange,
    FileChange,
    LayerChanges,
    PackageChange,
    Pair,
    gathered,
    size_of,
    written,
)
from builder.look.texts import TextDiff, text_diffs
from builder.oci.image import Image, Layer
from builder.rootfs.layers import Layers
from builder.ui import human
from builder.ui.text import BOLD, CYAN, GREEN, RED, YELLOW, harmless, paint

SECTIONS = ("files", "packages", "config", "layers")
_TYPES = {
    FILE: "file", SYMLINK: "symlink", DIRECTORY: "directory", CHAR: "character device",
    BLOCK: "block device", FIFO: "FIFO",
}  # fmt: skip
_COLORS = {"A": GREEN, "D": RED, "C": YELLOW}


def diff(arguments: argparse.Namespace) -> int:
    """0: they are the same in what was asked for; 3: they differ."""
    if arguments.other is None:
        from builder.cli.containers import changed

        return changed(arguments)
    sections = _sections(arguments)
    with wiring.open_store(arguments, ignore).live():  # what A is made of stays while B comes
        images = [look(arguments, text, _brought) for text in (arguments.image, arguments.other)]
        _check_platforms(arguments, images)
        found = _compare(arguments, sections, images)
    if arguments.json:
        sys.stdout.write(json.dumps(found.document(), indent=2) + "\n")
    else:
        sys.stdout.writelines(found.lines())
    return 3 if found.differs else 0


def _sections(arguments: argparse.Namespace) -> tuple[str, ...]:
    texts = [each.strip() for text in arguments.only for each in text.split(",")]
    for each in texts:
        if each not in SECTIONS:
            raise UsageError(f"--only {each!r}: expected {', '.join(SECTIONS)}")
    return tuple(each for each in SECTIONS if each in texts or not texts)


def _brought(found: Wanted) -> Image:
    """The image, its layers in the store."""
    image = found.one().image
    for layer in image.layers:
        found.layers.bring(layer)
    return image


def _check_platforms(arguments: argparse.Namespace, images: Sequence[Image]) -> None:
    one, other = (image.platform for image in images)
    if one != other:
        raise UsageError(
            f"{arguments.image!r} is for {one}, {arguments.other!r} is for {other}:"
            " images of one platform are compared",
            f"--platform {one}, where {arguments.other!r} is there for it",
        )


def _compare(
    arguments: argparse.Namespace, sections: Sequence[str], images: Sequence[Image]
) -> _Found:
    store = wiring.open_store(arguments, ignore)
    with store.live():
        before, after = images
        pair = Pair(Layers(store), before, after)
        files = pair.files() if "files" in sections or "packages" in sections else []
        packages, unread = pair.packages(files) if "packages" in sections else ([], [])
        files = files if "files" in sections else []
        return _Found(
            (arguments.image, arguments.other),
            images,
            pair,
            sections,
            files,
            packages,
            unread,
            pair.config() if "config" in sections else [],
            pair.layers(),
            list(text_diffs(pair, files)) if arguments.text else [],
        )


class _Found:
    """What differs, to be said."""

    def __init__(
        self,
        names: tuple[str, str],
        images: Sequence[Image],
        pair: Pair,
        sections: Sequence[str],
        files: list[FileChange],
        packages: list[PackageChange],
        unread: list[str],
        config: list[ConfigChange],
        layers: LayerChanges,
        texts: list[TextDiff],
    ) -> None:
        self._names, self._images, self._sections = names, images, sections
        self._files, self._packages, self._unread = files, packages, unread
        self._config, self._layers, self._texts = config, layers, texts
        self._sizes = [
            sum(each.entry.size for each in tree.files.values() if each.entry.type == FILE)
            for tree in (pair.before, pair.after)
        ]
        self._color = screen.color(sys.stdout)
        others = layers.before or layers.after
        self.differs = bool(files or packages or config or ("layers" in sections and others))

    # -- JSON -------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "differs": self.differs,
            "images": [
                {
                    "image": name,
                    "platform": str(image.platform),
                    "size": size,
                    "compressed": _compressed(image.layers),
                }
                for name, image, size in zip(self._names, self._images, self._sizes, strict=True)
            ],
        }
        if "files" in self._sections:
            texts = {each.path: each for each in self._texts}
            document["files"] = [_file(each, texts.get(each.path)) for each in self._files]
        if "packages" in self._sections:
            document["packages"] = [
                {"kind": kind, "name": name, "before": list(before), "after": list(after)}
                for kind, name, before, after in self._packages
            ]
            document["unread"] = self._unread
        if "config" in self._sections:
            document["config"] = [each._asdict() for each in self._config]
        if "layers" in self._sections:
            document["layers"] = {
                "shared": [_layer(each) for each in self._layers.shared],
                "before": [_layer(each) for each in self._layers.before],
                "after": [_layer(each) for each in self._layers.after],
            }
        return document

    # -- text -------------------------------------------------------------------------------------

    def lines(self) -> Iterator[str]:
        width = screen.width()
        for line in self._lines(short=width is not None):
            yield line + "\n"

    def _lines(self, *, short: bool) -> Iterator[str]:
        if not self.differs:
            yield f"no difference in {', '.join(self._sections)}"
            return
        old, new = self._sizes
        compressed = [_compressed(image.layers) for image in self._images]
        yield (
            f"size: {human.size(old)} -> {human.size(new)} ({_delta(new - old)}), compressed"
            f" {human.size(compressed[0])} -> {human.size(compressed[1])}"
        )
        if "layers" in self._sections:
            yield from self._of_layers()
        if self._config:
            yield self._head("config")
            for field, before, after in self._config:
                letter = "A" if before is None else "D" if after is None else "C"
                said = " -> ".join(
                    repr(written(each)) for each in (before, after) if each is not None
                )
                yield self._row(letter, f"{field}: {said}")
        if self._packages or self._unread:
            yield self._head("packages")
            for kind, name, versions, others in self._packages:
                letter = "A" if not versions else "D" if not others else "C"
                said = " -> ".join(", ".join(each) for each in (versions, others) if each)
                yield self._row(letter, f"{kind} {name} {said}")
            for line in self._unread:
                yield self._row("?", line)
        if self._files:
            yield from self._of_files(short=short)

    def _of_layers(self) -> Iterator[str]:
        shared, before, after = self._layers
        yield self._head(f"layers: {len(shared)} shared, {human.size(_compressed(shared))}")
        for letter, image, layers in (
            ("D", self._images[0], before),
            ("A", self._images[1], after),
        ):
            made = [text for text, _ in made_by(image)]
            for number, layer in enumerate(layers, len(shared)):
                size = human.size(layer.blob.size)
                yield self._row(
                    letter, f"{layer.diff_id[7:19]}  {size:>8}  {made[number]}".rstrip()
                )

    def _of_files(self, *, short: bool) -> Iterator[str]:
        numbers = {"added": 0, "removed": 0, "changed": 0}
        for each in self._files:
            numbers["added" if not each.before else "changed" if each.after else "removed"] += 1
        said = [f"{number} {word}" for word, number in numbers.items() if number]
        yield self._head(f"files: {', '.join(said)}")
        texts = {each.path: each for each in self._texts}
        rows = (
            gathered(self._files) if short else ((each, 0, size_of(each)) for each in self._files)
        )
        for change, others, size in rows:
            entry = change.after or change.before
            assert entry
            path = _shown(change.path) + ("/" if entry.type == DIRECTORY and change.path else "")
            if change.before and change.after:
                yield self._row("C", f"{path}  {', '.join(_said(change))}")
            else:
                of = f"  {human.count(others, 'path')} in it" if others else ""
                how = f"  -> {_shown(entry.link, '')}" if entry.type == SYMLINK else ""
                letter = "A" if change.after else "D"
                yield self._row(letter, f"{path}  {human.size(size)}{of}{how}")
            if text := texts.get(change.path):
                yield from self._of_text(text)

    def _of_text(self, text: TextDiff) -> Iterator[str]:
        codes = {"+": GREEN, "-": RED, "@": CYAN}
        for line in text.lines:
            shown = f"    {line[:1]}{harmless(line[1:])}"
            yield paint(shown, codes.get(line[:1], ""), self._color and line[:1] in codes)
        if text.remark:
            yield f"    ({text.remark})"

    def _head(self, text: str) -> str:
        return paint(text, BOLD, self._color)

    def _row(self, letter: str, text: str) -> str:
        return f"  {paint(letter, _COLORS.get(letter, ''), self._color)} {harmless(text)}"


def _compressed(layers: Sequence[Layer]) -> int:
    return sum(layer.blob.size for layer in layers)


def _delta(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{human.size(abs(size))}"


def made_by(image: Image) -> list[tuple[str, str]]:
    """What the history says of each layer, in a line, and when; "" of those it does not know."""
    history = image.config.get("history") or ()
    made = [
        (" ".join(str(each.get("created_by") or "").split())[:200], str(each.get("created") or ""))
        for each in history
        if not each.get("empty_layer")
    ]
    return [*made, *[("", "")] * len(image.layers)][: len(image.layers)]


def _shown(path: bytes, root: str = "/") -> str:
    return root + os.fsdecode(path)


def _said(change: FileChange) -> Iterator[str]:
    """What differs of a path that both have."""
    before, after = change.before, change.after
    assert before and after
    for field in change.what:
        match field:
            case "content":
                yield "content"
            case "mode":
                yield f"mode {before.mode:04o} -> {after.mode:04o}"
            case "size":
                yield f"{human.size(before.size)} -> {human.size(after.size)}"
            case "xattrs":
                names = sorted({name for name, _ in {*before.xattrs} ^ {*after.xattrs}})
                yield "attributes " + ", ".join(map(os.fsdecode, names))
            case _:
                old, new = (_value(each, field) for each in (before, after))
                yield f"{field} {old} -> {new}"


def _value(entry: Entry, field: str) -> str:
    match field:
        case "type":
            return _TYPES.get(entry.type, entry.type)
        case "owner":
            return f"{entry.uid}:{entry.gid}"
        case "link":
            return os.fsdecode(entry.link)
        case _:
            return ":".join(map(str, entry.device))


def _file(change: FileChange, text: TextDiff | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "path": _shown(change.path),
        "before": change.before and described(change.before),
        "after": change.after and described(change.after),
    }
    if change.what:
        document["what"] = list(change.what)
    if text:
        document["text"] = list(text.lines)
        if text.remark:
            document["remark"] = text.remark
    return document


def described(entry: Entry) -> dict[str, Any]:
    """For JSON."""
    document: dict[str, Any] = {
        "type": _TYPES.get(entry.type, entry.type),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
    }
    if entry.type == FILE:
        document["size"] = entry.size
    if entry.type == SYMLINK:
        document["link"] = os.fsdecode(entry.link)
    if entry.type in (CHAR, BLOCK):
        document["device"] = list(entry.device)
    if entry.xattrs:
        document["xattrs"] = {os.fsdecode(name): value.hex() for name, value in entry.xattrs}
    return document


def _layer(layer: Layer) -> dict[str, Any]:
    return {"diff_id": layer.diff_id, **layer.blob.document()}
