"""One target's spec: what its Dockerfile becomes, with what bake says beside it."""

from __future__ import annotations

import os
import re

from builder.bake import contexts
from builder.bake.secrets import secret_of
from builder.bake.target import Place, Said, Target
from builder.bake.values import MARK, Val, depends, said_by, shown
from builder.bake.variables import Names, names_in
from builder.bake.whole import Whole
from builder.dockerfile.convert import Converted, Wish
from builder.dockerfile.convert import convert as converted
from builder.dockerfile.expand import Ref, quoted
from builder.dockerfile.nodes import below, drop, put, template, text, texts
from builder.dockerfile.scopes import PLATFORM
from builder.dockerfile.yaml import text_of
from builder.errors import Place as FilePlace
from builder.errors import SpecError, UsageError
from builder.spec.node import LIST, MAPPING, Node
from builder.spec.render import is_template
from builder.spec.source import Fault, Source, quote

_LEFT = {
    "annotations": "annotations are not written",
    "attest": "no attestations are written",
    "cache-from": "the store is the cache",
    "cache-to": "the store is the cache",
    "call": "builder lint checks",
    "entitlements": "commands have no more rights than an image needs",
    "extra-hosts": "commands see the hosts of the builder",
    "no-cache": "builder build --no-cache makes every step again",
    "no-cache-filter": "what has not changed gives the same bytes",
    "output": "builder build -o writes images and files, --push pushes",
    "policy": "there are no policies",
    "pull": "builder build --pull looks for newer bases",
    "shm-size": "a command has the /dev/shm of the builder",
    "ssh": "builder build --ssh gives an agent or a key",
    "ulimits": "a command's limits are those of the builder",
}
_NETWORKS = ("none", "host")
_FIXED = ("context", "dockerfile", "dockerfile-inline", "target", "network")
"""What no template says: it decides what the spec is made of."""
_NAMED = re.compile(r"\{\{ (\w+) \}\}")


class Spec:
    """One target's spec."""

    def __init__(self, whole: Whole, target: Target, source: Source, folder: str) -> None:
        self.whole = whole
        self.target = target
        self.folder = folder
        self.head: list[str] = []
        self.fixed: dict[str, None] = {}
        self.values = {
            name: shown(each.data)
            for name, each in target.pairs("args").items()
            if each.data is not None
        }
        wish = Wish(
            target=target.text("target") or "",
            context=os.path.join(whole.project.root, folder),
            excludes=_below(whole.project.excludes, folder),
            idiomatic=whole.project.idiomatic,
            defaults=self.values,
        )
        try:
            self.found: Converted = converted(source, wish)
        except UsageError as error:  # a stage that is not there
            file, line, column = target.said["target"].place
            message = f"target {quote(wish.target)}: {source.file} has no such stage"
            raise Fault(line, column, message, error.hint, file) from None
        for remark in self.found.remarks:
            place = FilePlace(source.file, *remark.place)
            whole.remarks.append(SpecError(remark.message).at(place))
        self.top = self.found.top
        self.at = (self.top.line, self.top.column)
        args = target.pairs("args")
        same = {name for name, each in args.items() if each.said and each.code == said_by(name)}
        taken = {key.text for key in self._keys("vars")} - same
        self.names = Names(whole.bake.variables, taken)

    def _keys(self, name: str) -> list[Node]:
        found = self.top.get(name)
        return [key for key, _ in found.pairs] if found else []

    def text(self) -> str:
        target, top = self.target, self.top
        for name in target.said:
            if name in _LEFT and (target.items(name) or target.text(name)):
                self.left(name, _LEFT[name])
        for name, said in target.said.items():
            if name in _FIXED and depends(said.value):
                self.hangs(said.place, name, depends(said.value))
            elif name in ("args", "labels") and said.value.names:
                self.hangs(said.place, f"which {name} there are", said.value.names)
        used = self._contexts()
        contexts.prune(top)
        used += self._arguments()
        used += self._labels()
        used += self._network()
        used += self._tags()
        self._variables(names_in(used))
        self._platforms()
        self._secrets()
        if self.folder != ".":
            put(top, "context", text(self.folder, self.at), self.at)
        self._order()
        described = target.text("description")
        head = [f"Of target {target.name} in {os.path.basename(target.place[0].file)}."]
        head += [described.replace("\n", " ")] if described else []
        return text_of(self.found, [*head, *self.head])

    def left(self, name: str, why: str) -> None:
        self.note(self.target.said[name].place, f"{name} is left out: {why}")

    def note(self, place: Place, message: str) -> None:
        self.whole.remark(place, message)
        self.head.append(f"builder: {message}")

    def hangs(self, place: Place, what: str, names: frozenset[str]) -> None:
        told = ", ".join(sorted(names))
        self.note(place, f"{what} hangs on {told}, and is here what it was by default")

    def template(self, value: Val, said: Said, what: str) -> str:
        """A value as a text of the spec; what no template says is told."""
        if value.sayable:
            return template(self.names.said(value.parts))
        if what not in self.fixed:
            self.hangs(said.place, what, value.names)
        self.fixed[what] = None
        return template(shown(value.data))

    # -- what a target says ------------------------------------------------------------------------

    def _contexts(self) -> list[Val]:
        given = self.target.pairs("contexts")
        wanted = {name: each for name, each in given.items() if each.data}

        said = {
            name: Val(each.data, each.names, self.names.said(each.said)) if each.said else each
            for name, each in wanted.items()
        }
        for name, why in contexts.replace(
            self.top, said, self.whole.names.get, self.whole.project.within, self._known
        ):
            self.note(self.target.said["contexts"].place, f"context {name} is left out: {why}")
        return list(wanted.values())

    def _known(self, text_of: str) -> str:
        """What a template that has variables alone is by default."""
        values = self.top.get("vars")
        known = {key.text: value.text for key, value in values.pairs} if values else {}
        known |= self.values
        for _ in range(5):  # defaults that have variables in them
            text_of = _NAMED.sub(lambda found: known.get(found[1], found[0]), text_of)[:1000]
        return text_of

    def _arguments(self) -> list[Val]:
        """Sets the defaults of variables that ARGs became."""
        said = self.target.said.get("args")
        if said is None:
            return []
        used = []
        values = self.top.get("vars")
        for name, value in self.target.pairs("args").items():
            if value.data is None:
                self._unset(name, value)
                continue
            known = {key.text for key in self._keys("vars")}
            if name not in known:
                self._not_taken(name, said.place)
                continue
            assert values is not None
            used.append(value)
            if value.said and value.code == said_by(name):
                self._drop_variable(values, name)
                continue
            made = text(self.template(value, said, f"argument {name}"), self.at, ready=True)
            put(values, name, made, self.at)
        return used

    def _unset(self, name: str, value: Val) -> None:
        """An argument that is a variable without a value: the environment may have one, else the
        ARG's default holds."""
        values = self.top.get("vars")
        default = values.get(name) if values else None
        if values is None or default is None or not value.said or is_template(default.text):
            return
        variable = value.code.removeprefix(MARK)
        code = f"env({quoted(variable)}, {quoted(default.text)})"
        put(values, name, text((Ref(code),), self.at), self.at)

    def _not_taken(self, name: str, place: Place) -> None:
        """An argument that the Dockerfile makes no variable of; those of BuildKit are for that."""
        if name.startswith("BUILDKIT_") or name == "SOURCE_DATE_EPOCH":
            return
        if name.lower().endswith("_proxy"):
            return  # it is the environment's
        why = "it is the platform's" if name in PLATFORM else "the Dockerfile has no such ARG"
        self.note(place, f"argument {name} is left out: {why}")

    def _drop_variable(self, values: Node, name: str) -> None:
        """The file's variable of that name takes its place."""
        drop(values, name)

    def _labels(self) -> list[Val]:
        given = {
            name: each
            for name, each in self.target.pairs("labels").items()
            if each.data is not None
        }
        if not given:
            return []
        labels = below(below(self.top, "config", self.at), "labels", self.at)
        said = self.target.said["labels"]
        for name, value in given.items():
            made = self.template(value, said, f"label {name}")
            put(labels, name, text(made, self.at, ready=True), self.at)
        return list(given.values())

    def _network(self) -> list[Val]:
        wanted = self.target.text("network")
        if wanted in _NETWORKS:
            for steps in _steps(self.top):
                for step in steps.items:
                    if step.get("run") is not None and step.get("network") is None:
                        put(step, "network", text(wanted, self.at), self.at)
        elif wanted and wanted != "default":
            self.left("network", "there are none, host, and the default")
        return []

    def _tags(self) -> list[Val]:
        said = self.target.said.get("tags")
        if said is None or not said.value.data:
            return []
        value = said.value
        if value.loose is not None:
            value = Val(list(value.loose))
        if value.names and value.said is not None:
            code = template(self.names.said(value.said))
            put(self.top, "tags", text(code, self.at, ready=True), self.at)
            return [value]
        if value.names:
            self.hangs(said.place, "which tags there are", depends(value))
        made: dict[str, None] = {}
        for each in value.data:
            if each.data not in (None, "") or each.said:
                made[self.template(each, said, "tags")] = None
        if not made:
            return []
        node = texts((), self.at)
        node.items = [text(each, self.at, ready=True) for each in made]
        put(self.top, "tags", node, self.at)
        return list(value.data)

    def _variables(self, names: set[str]) -> None:
        values = self.top.get("vars")
        wanted = self.names.needed(names)
        if not wanted:
            if values is not None and not values.pairs:
                drop(self.top, "vars")
            return
        made = Node(MAPPING, *self.at)
        for default in wanted:
            put(made, self.names.of(default.name), self.names.node(default), self.at)
            if not default.value.sayable:
                hangs = ", ".join(sorted(default.value.names))
                self.note(
                    default.place,
                    f"variable {default.name} hangs on {hangs}, and is here what it was",
                )
        made.pairs += values.pairs if values else []
        put(self.top, "vars", made, self.at)

    def _platforms(self) -> None:
        said = self.target.said.get("platforms")
        if said is None or not said.value.data:
            return
        if depends(said.value):
            self.hangs(said.place, "platforms", depends(said.value))
        named = dict.fromkeys(shown(each.data) for each in said.value.data if each.data)
        found = [each for each in named if each.startswith("linux/")]
        for each in named:
            if each not in (*found, "local"):
                self.note(said.place, f"platform {each} is left out: images are Linux's")
        if found:
            put(self.top, "platforms", texts(found, self.at), self.at)

    def _secrets(self) -> None:
        for each in self.target.items("secret"):
            place = self.target.said["secret"].place
            found = secret_of(each)
            if found is None:
                self.note(place, "a secret is left out: it has no id")
                continue
            name, given = found
            path = given.get("file")
            if path is not None:
                whole = os.path.join(self.whole.project.base, os.path.expanduser(path))
                relative = os.path.relpath(whole, self.whole.project.root)
                if relative.startswith("..") or path.startswith("~"):
                    self.note(
                        place, f"secret {name} is outside of the project: --secret {name}={path}"
                    )
                    continue
                given = {"file": relative}
            self.whole.secrets.setdefault(name, given)

    def _order(self) -> None:
        order = ("vars", "stages", "context", "from", "platforms", "steps", "config", "tags")
        self.top.pairs.sort(
            key=lambda pair: order.index(pair[0].text) if pair[0].text in order else 3
        )


def _below(paths: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """Paths of the project that are in a folder, from there."""
    found = (os.path.relpath(each, folder) for each in paths)
    return tuple(each for each in found if not each.startswith(".."))


def _steps(node: Node) -> list[Node]:
    found = []
    for key, value in node.pairs:
        if key.text == "steps" and value.kind == LIST:
            found.append(value)
        else:
            found += _steps(value)
    return found
