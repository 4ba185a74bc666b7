"""`builder logs`: what steps printed when they were made."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.oci.image import host_platform, parse_platforms
from builder.plan.last import load_last
from builder.spec.files import SUFFIXES, is_dockerfile, stem_of
from builder.store.logs import Failure, Kept, failures, load_log
from builder.store.names import ANY, ImageName, index_entries
from builder.store.records import base_log, failed_log
from builder.store.store import Store
from builder.ui import human
from builder.ui.text import BOLD, RED, harmless, paint


class Step(NamedTuple):
    """One that may have a log: the base (0), or a step of the image as it was last built."""

    number: int
    name: str
    log: str  # its name in the store
    failure: Failure | None = None

    def is_called(self, text: str) -> bool:
        return text in (self.name, str(self.number)) or (text == "base" and not self.number)


def logs(arguments: argparse.Namespace) -> int:
    """Of an image whose last build failed the failed step's, else all of them."""
    store = wiring.open_store(arguments, screen.renderer(arguments.progress))
    wanted = _name(arguments)
    image, failure = _image(store, wanted, arguments)
    if image.project != wiring.project_name(arguments):
        sys.stderr.write(f"this project has built no {wanted!r}: this is of {image.project}\n")
    steps = _steps(store, image, failure)
    chosen = [steps[-1]] if failure else steps
    if arguments.step is not None:
        chosen = [each for each in steps if each.is_called(arguments.step)][:1]
        if not chosen and failure:  # behind the one that failed
            chosen = [
                each for each in _steps(store, image, None) if each.is_called(arguments.step)
            ][:1]
        if not chosen:
            known = ", ".join(f"{each.number} {each.name}" for each in steps if each.number)
            text = f"image {wanted!r} has no step {arguments.step!r}"
            raise UsageError(text, f"there are: {known}" if known else None)
    found = [(step, load_log(store, step.log)) for step in chosen]
    if arguments.json:
        sys.stdout.write(json.dumps(_document(image, found), indent=2) + "\n")
        return 0
    several = arguments.step is None
    shown = [(step, kept) for step, kept in found if (kept and kept.text) or not several or failure]
    for number, (step, kept) in enumerate(shown):
        if several:
            sys.stdout.write(("\n" if number else "") + _head(image, step))
        _write(kept)
        if not kept or not kept.text:
            sys.stderr.write(f"step {step.name!r} printed nothing, or its log is gone\n")
    if not shown:
        sys.stderr.write(f"no step of {image.name!r} printed anything\n")
    return 0


def _name(arguments: argparse.Namespace) -> str:
    """What the image is called that IMAGE means; no spec is read."""
    text: str = arguments.image
    if (os.path.isdir(text) and ("/" in text or text in (".", ".."))) or is_dockerfile(text):
        from builder.cli.dockerfile import prepare
        from builder.dockerfile.loading import name_of

        prepare(arguments)
        return name_of(arguments.image)
    return stem_of(text) if text.endswith(SUFFIXES) else text


def _image(
    store: Store, wanted: str, arguments: argparse.Namespace
) -> tuple[ImageName, Failure | None]:
    """The image, and its failure where its last build, or that of one of its stages, failed. Of
    another project only where this one has none of that name."""
    project = wiring.project_name(arguments)
    platforms = parse_platforms(arguments.platform)
    failed = [
        each
        for each in failures(store)
        if each.image.name == wanted or each.image.name.startswith(f"{wanted}:")
    ]
    named = []
    for name, manifest in store.names().items():
        if name.name != wanted or not name.project:
            continue
        if name.platform != ANY:
            named.append(name)
        for platform, _ in index_entries(store, manifest) if name.platform == ANY else ():
            named.append(name._replace(platform=platform))
    guessed = [ImageName(wanted, each, project) for each in (*platforms, host_platform())]
    built = [name for name in (*guessed, *named) if load_last(store, name)]

    def fits(name: ImageName, own: bool) -> bool:
        return (name.project == project) == own and (not platforms or name.platform in platforms)

    for own in (True, False):
        for failure in failed:
            if fits(failure.image, own):
                return failure.image, failure
        for name in built:
            if fits(name, own):
                return name, None
    from builder.transport.stored import no_image

    error = no_image(wanted, {name: blob for name, blob in store.names().items() if name.project})
    raise UsageError(f"no build of {wanted!r} is known", error.hint)


def _steps(store: Store, image: ImageName, failure: Failure | None) -> list[Step]:
    """Those with a log perhaps, in their order; with a failure, up to the step that failed."""
    if failure:
        before = [Step(*each) for each in failure.steps]
        base = [Step(0, "base", base_log(failure.base_chain))] if failure.base_chain else []
        failed = Step(failure.number, failure.name, failed_log(image), failure)
        return [*base, *before, failed]
    last = load_last(store, image)
    if last is None:
        return []
    steps = [Step(number, each.name, each.key) for number, each in enumerate(last.steps, 1)]
    return [Step(0, "base", base_log(last.base_chain)), *steps]


def _head(image: ImageName, step: Step) -> str:
    color = screen.color(sys.stdout)
    place = str(step.number) if step.number else "base"
    head = f"{paint(harmless(image.name), BOLD, color)} [{place}] {harmless(step.name)}"
    if failure := step.failure:
        age = human.ago(time.time() - failure.time)
        head += f"  {paint('failed', RED, color)} {age}: {harmless(failure.message)}"
    return head + "\n"


def _write(kept: Kept | None) -> None:
    color = screen.color(sys.stdout)
    for line in (kept.text if kept else b"").splitlines():
        sys.stdout.write(harmless(line.decode("utf-8", "replace"), color=color) + "\n")


def _document(image: ImageName, found: Iterable[tuple[Step, Kept | None]]) -> dict[str, object]:
    return {
        "image": image.name,
        "platform": str(image.platform),
        "steps": [
            {
                "step": step.number,
                "name": step.name,
                "failed": step.failure.message if step.failure else None,
                "missing": kept.missing if kept else 0,
                "lines": kept.text.decode("utf-8", "replace").splitlines() if kept else None,
            }
            for step, kept in found
        ],
    }
