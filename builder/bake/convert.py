"""Targets to specs: which of them are images, what they are called, and the project file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from builder.bake.model import Bake, Resolver
from builder.bake.spec import Spec
from builder.bake.target import Target
from builder.bake.whole import Project, Whole
from builder.errors import SpecError, UsageError
from builder.spec.source import Fault, Source, quote, written


class Made(NamedTuple):
    """`specs` by name, `project` what builder.yaml says, "" nothing."""

    specs: dict[str, str]
    project: str
    remarks: list[SpecError]


def convert(bake: Bake, project: Project) -> Made:
    """Raises Fault, SpecErrors of a Dockerfile, and UsageError where nothing is an image."""
    return _Converter(bake, project).made()


class _Converter:
    def __init__(self, bake: Bake, project: Project) -> None:
        self.whole = Whole(bake, project)
        self.bake = bake
        self.project = project
        self.names = self.whole.names
        self.remark = self.whole.remark
        for place, message in bake.remarks:
            self.remark(place, message)

    def made(self) -> Made:
        resolver = Resolver(self.bake)
        targets = {name: resolver.target(name) for name in self.bake.targets}
        self._circles(targets)
        sources: dict[str, tuple[Source, str]] = {}  # the Dockerfile and the context's folder
        for name, target in targets.items():
            if (found := self._source(target)) is not None:
                sources[name] = found
                self.names[name] = self._called(target)
        specs = {}
        for name, (source, folder) in sources.items():
            specs[self.names[name]] = Spec(self.whole, targets[name], source, folder).text()
        if not specs:
            raise UsageError("no target is an image here", "targets need a Dockerfile each")
        return Made(specs, self._project(), self.whole.remarks)

    def _circles(self, targets: Mapping[str, Target]) -> None:
        """Raises Fault where targets take from one another in a circle."""

        def linked(name: str) -> Iterator[str]:
            texts = (str(each.data) for each in targets[name].pairs("contexts").values())
            named = (text.removeprefix("target:") for text in texts if text.startswith("target:"))
            return (each for each in named if each in targets)

        done: set[str] = set()
        for start in targets:
            way = {start: linked(start)} if start not in done else {}
            while way:
                name = next(reversed(way))
                following = next(way[name], None)
                if following is None:
                    done.add(name)
                    del way[name]
                elif following in way:
                    source, line, column = targets[name].place
                    names = list(way)
                    told = " -> ".join((*names[names.index(following) :][-5:], following))
                    message = f"targets take from one another in a circle: {told}"
                    raise Fault(line, column, message, None, source)
                elif following not in done:
                    way[following] = linked(following)

    # -- which targets are images ------------------------------------------------------------------

    def _source(self, target: Target) -> tuple[Source, str] | None:
        if self._is_part(target):
            self.remark(
                target.place, f"target {target.name} is left out: it is there to be inherited from"
            )
            return None
        context = target.text("context") or "."
        if "://" in context or context.startswith("git@"):
            message = f"target {target.name} is left out: its context {context} is not fetched"
            self.remark(target.said["context"].place, message)
            return None
        folder = os.path.join(self.project.base, context.removeprefix("cwd://"))
        relative = self.project.within(context.removeprefix("cwd://"))
        if relative.startswith(".."):
            message = f"target {target.name} is left out: its context is outside of the project"
            self.remark(target.said["context"].place, message)
            return None
        inline = target.text("dockerfile-inline")
        if inline:
            source, line, _ = target.said["dockerfile-inline"].place
            return Source(f"{source.file}:{line} (dockerfile-inline)", inline), relative
        path = target.text("dockerfile") or "Dockerfile"
        path = os.path.normpath(
            os.path.join(self.project.base, path[6:])
            if path.startswith("cwd://")
            else os.path.join(folder, path)
        )
        source_ = self.project.read(path)
        if source_ is None:
            at = target.said.get("dockerfile")
            message = f"target {target.name} is left out: there is no {path}"
            self.remark(at.place if at else target.place, message)
            return None
        return source_, relative

    def _is_part(self, target: Target) -> bool:
        if any(target.name in each.targets for each in self.bake.groups.values()):
            return False
        others = self.bake.targets.values()
        if not any(target.name in each.inherits for each in others):
            return False
        own = self.bake.targets[target.name].said
        images = ("dockerfile", "dockerfile-inline", "target", "tags", "context")
        return target.name.startswith("_") or not any(each in own for each in images)

    def _called(self, target: Target) -> str:
        name = _name(target.name) or "image"
        while name in self.names.values():
            name += "-2"
        return name

    # -- the project file --------------------------------------------------------------------------

    def _project(self) -> str:
        lines = []
        groups = {}
        for group in self.bake.groups.values():
            members = self._members(group.name)
            name = _name(group.name)
            if not members or [name] == members:
                continue
            if name in self.names.values() or not name:
                self.remark(group.place, f"group {group.name} is left out: an image is called so")
                continue
            groups[name] = members
        if groups:
            lines.append("groups:")
            lines += [
                f"  {name}: [{', '.join(map(written, each))}]" for name, each in groups.items()
            ]
        if self.whole.secrets:
            lines.append("secrets:")
            for name, said in self.whole.secrets.items():
                pairs = ", ".join(f"{key}: {written(value)}" for key, value in said.items())
                lines.append(f"  {written(name)}: {{{pairs}}}")
        return "\n".join(lines) + "\n" if lines else ""

    def _members(self, name: str) -> list[str]:
        """The images of a group, with those of groups in it, once each, in their order."""
        made: dict[str, None] = {}
        seen = {name}
        waiting = [name]
        while waiting:
            each = waiting.pop()
            if each in self.names and each != name:
                made[self.names[each]] = None
                continue
            group = self.bake.groups.get(each)
            if group is None:
                continue
            for member in group.targets:
                if member not in self.bake.targets and member not in self.bake.groups:
                    source, line, column = group.place
                    message = f"group {quote(each)} has {quote(member)}, no target and no group"
                    raise Fault(line, column, message, None, source)
            fresh = [member for member in dict.fromkeys(group.targets) if member not in seen]
            seen.update(fresh)
            waiting += reversed(fresh)
        return list(made)


def _name(text: str) -> str:
    """As images and groups are called: lower-case letters and digits, one sign between them."""
    text = re.sub(r"[^a-z0-9._-]", "-", text.lower())
    return re.sub(r"[._-]*([._-])[._-]*", r"\1", text).strip("._-")
