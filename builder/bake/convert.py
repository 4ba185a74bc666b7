"""Targets to specs: which of them are images, what they are called, and the project file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from builder.bake.model import Bake, resolved
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
        targets = {name: resolved(self.bake, name) for name in self.bake.targets}
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
        done: set[str] = set()
        for start in targets:
            way: list[str] = []
            waiting = [(start, 0)]
            while waiting:
                name, depth = waiting.pop()
                del way[depth:]
                if name in way:
                    source, line, column = targets[way[-1]].place
                    shown_as = " -> ".join((*way[way.index(name) :][-5:], name))
                    message = f"targets take from one another in a circle: {shown_as}"
                    raise Fault(line, column, message, None, source)
                if name in done or name not in targets:
                    continue
                way.append(name)
                linked = [
                    str(each.data)[len("target:") :]
                    for each in targets[name].pairs("contexts").values()
                    if str(each.data).startswith("target:")
                ]
                if not linked:
                    done.add(name)
                waiting += [(each, len(way)) for each in linked]
            done.add(start)

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
        name = re.sub(r"[^a-z0-9._-]", "-", target.name.lower())
        name = re.sub(r"[._-]*([._-])[._-]*", r"\1", name).strip("._-") or "image"
        while name in self.names.values():
            name += "-2"
        return name

    # -- the project file --------------------------------------------------------------------------

    def _project(self) -> str:
        lines = []
        groups = {}
        for group in self.bake.groups.values():
            members = self._members(group.name, ())
            name = re.sub(r"[^a-z0-9._-]", "-", group.name.lower()).strip("._-")
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

    def _members(self, name: str, above: tuple[str, ...]) -> list[str]:
        """The images of a group, with those of groups in it, once each."""
        group = self.bake.groups[name]
        made: dict[str, None] = {}
        for each in group.targets:
            if each in self.bake.groups and each not in (*above, name) and len(above) < 20:
                made |= dict.fromkeys(self._members(each, (*above, name)))
            elif each in self.names:
                made[self.names[each]] = None
            elif each not in self.bake.targets and each not in self.bake.groups:
                source, line, column = group.place
                message = f"group {quote(name)} has {quote(each)}, which is no target and no group"
                raise Fault(line, column, message, None, source)
        return list(made)
