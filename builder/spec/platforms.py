"""Platforms: the specs of a run that builds for several, or for another one than it was read for.

A project is read once for each platform, since templates may say something else for each. What
comes of it is one mapping of specs for one walk: an image stands on, and copies from, images for
its own platform; a stage that runs on this machine and says the same for several is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from builder.errors import SpecError, UsageError
from builder.oci.image import Platform
from builder.spec.files import error_at
from builder.spec.gather import Loaded
from builder.spec.model import BaseRef, ImageSpec

Load = Callable[[Platform], Loaded]
"""Reads what was asked for, for a platform."""


class _Node(NamedTuple):
    """A spec as it was read for a platform."""

    target: Platform
    key: str


class Spread(NamedTuple):
    """A run for several platforms."""

    specs: Mapping[str, ImageSpec]
    """By what the run calls them, ImageSpec.task or the key; what others are made of comes
    first."""
    images: Mapping[str, tuple[str, ...]]
    """Of each image that was asked for what the run calls it, a name for each platform, sorted by
    that."""
    left_out: tuple[ImageSpec, ...]
    tasks: Mapping[tuple[Platform, str], str]
    """What the run calls the spec with this key, read for this platform."""

    def pointing(self, spec: ImageSpec) -> ImageSpec:
        """A spec that was read once more, with its images by the names of this run."""
        target = spec.target
        assert target is not None
        platform = spec.platform or target

        def pointed(ref: BaseRef) -> BaseRef:
            if not ref.of_spec:
                return ref
            node = (target if ref.kind == "stage" else platform, ref.value)
            return ref._replace(of_task=_other(self.tasks[node], ref.value))

        return _pointed(spec, pointed)


def spread(load: Load, default: Sequence[Platform], chosen: Sequence[Platform]) -> Spread:
    """Read a project for all its platforms: those that the command line has `chosen`, else those
    that each spec says, else `default`. Raises UsageError, SpecError."""
    return _Spreading(load, default, chosen).run()


class _Spreading:
    def __init__(self, load: Load, default: Sequence[Platform], chosen: Sequence[Platform]) -> None:
        self._load, self._default, self._chosen = load, default, chosen
        self._loaded: dict[Platform, Loaded] = {}
        self._done: dict[_Node, _Node] = {}  # to the first of those that are the same
        self._kept: dict[_Node, ImageSpec] = {}  # what is built, in order

    def run(self) -> Spread:
        waiting = deque(self._default)
        targets: list[Platform] = []
        while waiting:
            target = waiting.popleft()
            if target not in targets:
                targets.append(target)
                found = self._read(target)
                for spec in (*self._asked(found), *found.left_out):
                    waiting += self._wanted(spec)
        targets.sort()
        images: dict[str, list[_Node]] = {}
        left_out: dict[str, ImageSpec] = {}
        for target in targets:
            found = self._read(target)
            for spec in self._asked(found):
                if target in self._wanted(spec):
                    images.setdefault(spec.key, []).append(self._visit(_Node(target, spec.key)))
            left_out.update((each.key, each) for each in found.left_out)
        tasks = self._tasks()
        specs = {}
        for node, spec in self._kept.items():
            named = spec._replace(target=node.target, task=_other(tasks[node], node.key))
            specs[tasks[node]] = _pointed(named, lambda ref: self._named(ref, tasks))
        return Spread(
            specs,
            {
                key: tuple(dict.fromkeys(tasks[each] for each in nodes))
                for key, nodes in images.items()
            },
            tuple(each for key, each in left_out.items() if key not in images),
            {(node.target, node.key): tasks[first] for node, first in self._done.items()},
        )

    def _read(self, target: Platform) -> Loaded:
        if target not in self._loaded:
            self._loaded[target] = self._load(target)
        return self._loaded[target]

    @staticmethod
    def _asked(found: Loaded) -> list[ImageSpec]:
        return [found.specs[key] for key in found.asked]

    def _wanted(self, spec: ImageSpec) -> tuple[Platform, ...]:
        """What an image that was asked for is to be built for."""
        if not self._chosen or spec.stage:
            return spec.platforms or tuple(self._default)
        for each in self._chosen:
            if spec.platforms and each not in spec.platforms:
                known = " and ".join(map(str, spec.platforms))
                raise UsageError(
                    f"--platform {each}: {spec.file} is for {known}",
                    f"add it to its `platforms`, or give --platform {spec.platforms[0]}",
                )
        return tuple(self._chosen)

    def _visit(self, node: _Node) -> _Node:
        """What this node is made of, then itself; the node that stands for it."""
        if node in self._done:
            return self._done[node]
        spec = self._read(node.target).specs[node.key]
        platform = spec.platform or node.target
        below = {
            (ref.kind, ref.value): self._below(spec, ref, node.target, platform)
            for ref in spec.refs
            if ref.of_spec
        }
        if spec.waits:  # which stages it uses may be decided by what the base says
            image = node.key.partition(":")[0] + ":"
            for key in self._read(node.target).specs:
                if key.startswith(image) and key != node.key and not spec.stage:
                    self._visit(_Node(node.target, key))

        def pointed(ref: BaseRef) -> BaseRef:
            found = below.get((ref.kind, ref.value))
            return ref._replace(of_task=_mark(found)) if found else ref

        spec = _pointed(spec._replace(platform=platform), pointed)
        first = next((each for each, other in self._kept.items() if each.key == node.key
                      and other._replace(stages=()) == spec._replace(stages=())), node)  # fmt: skip
        self._done[node] = first
        if first is node:
            self._kept[node] = spec
        return first

    def _below(self, spec: ImageSpec, ref: BaseRef, target: Platform, platform: Platform) -> _Node:
        """What an image stands on or copies from."""
        node = _Node(target if ref.kind == "stage" else platform, ref.value)
        found = self._read(node.target).specs.get(ref.value)
        if found is None:
            raise _wrong(ref, f"{ref} is left out for {platform}")
        if found.platforms and platform not in found.platforms and ref.kind == "image":
            known = " and ".join(map(str, found.platforms))
            raise _wrong(
                ref,
                f"{ref} is built for {known}, expected {platform}",
                "give both specs the same `platforms`, or none",
            )
        own = found.platform or node.target
        if ref is spec.base and ref.kind == "stage" and own != platform:
            what = f"the stage {spec.stage!r}" if spec.stage else "the image"
            raise _wrong(
                ref,
                f"{ref} is for {own}, and {what} that stands on it for {platform}",
                f"copy from it, or leave `platform: host` of {ref} out",
            )
        return self._visit(node)

    def _tasks(self) -> dict[_Node, str]:
        several = [node.key for node in self._kept]
        return {
            node: f"{node.key} ({node.target})" if several.count(node.key) > 1 else node.key
            for node in self._kept
        }

    def _named(self, ref: BaseRef, tasks: Mapping[_Node, str]) -> BaseRef:
        if not ref.of_spec:
            return ref
        node = next(each for each in tasks if _mark(each) == ref.of_task)
        return ref._replace(of_task=_other(tasks[node], ref.value))


def _pointed(spec: ImageSpec, pointed: Callable[[BaseRef], BaseRef]) -> ImageSpec:
    """With other references to images."""
    steps = tuple(step.within(pointed) for step in spec.steps)
    return spec._replace(base=pointed(spec.base), steps=steps)


def _mark(node: _Node) -> str:
    return f"{node.target} {node.key}"


def _other(task: str, key: str) -> str:
    """What a run calls a spec, "" where that is its key."""
    return "" if task == key else task


def _wrong(ref: BaseRef, message: str, hint: str | None = None) -> SpecError:
    return error_at(ref.place, message, hint)
