"""Compose files: the build sections of their services, as targets in bake's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from builder.bake.compose_files import Files, Load, as_build, as_mapping
from builder.bake.interpolate import Variables
from builder.bake.model import Bake, Default, Group
from builder.bake.target import Place, Said, Target
from builder.bake.values import Val, Wrong
from builder.spec.node import BOOL, LIST, MAPPING, NULL, Node
from builder.spec.source import Source, did_you_mean, quote

_TEXTS = {
    "context": "context",
    "dockerfile": "dockerfile",
    "dockerfile_inline": "dockerfile-inline",
    "target": "target",
    "network": "network",
    "shm_size": "shm-size",
}
_MAPS = {
    "args": "args",
    "labels": "labels",
    "additional_contexts": "contexts",
    "extra_hosts": "extra-hosts",
}
_LISTS = {
    "tags": "tags",
    "platforms": "platforms",
    "cache_from": "cache-from",
    "cache_to": "cache-to",
    "entitlements": "entitlements",
}
_TRUTHS = {"pull": "pull", "no_cache": "no-cache"}
_OTHERS = ("secrets", "ssh", "privileged", "ulimits", "isolation", "provenance", "sbom", "x-bake")
KNOWN = (*_TEXTS, *_MAPS, *_LISTS, *_TRUTHS, *_OTHERS)
_TOP = (
    *("services", "secrets", "version", "name", "include", "networks", "volumes", "configs"),
    "models",
)


def read(sources: Sequence[Source], folder: str, env: Mapping[str, str], load: Load) -> Bake:
    """All services that have a build section; paths are relative to `folder`, `env` is what .env
    says. Raises Fault."""
    tree = Files(load).whole(sources, folder)
    first = _Reader(tree, Variables(env))
    first.done()
    return _Reader(tree, Variables(env, first.variables.uses)).done()


class _Reader:
    def __init__(self, tree: Node, variables: Variables) -> None:
        self.tree = tree
        self.variables = variables
        self.remarks: list[tuple[Place, str]] = []
        self.places: dict[str, Place] = {}  # of variables, where they are used first
        self.secrets: dict[str, Node] = {}

    def done(self) -> Bake:
        for key, _ in self.tree.pairs:
            if key.text not in _TOP and not key.text.startswith("x-"):
                near = did_you_mean(key.text, _TOP)
                raise key.fault(f"there is no {quote(key.text)} at the top of a compose file{near}")
        services = self.tree.get("services")
        if services is None or services.kind != MAPPING:
            at = services or self.tree
            raise at.fault("there are no services", "a compose file has services: {NAME: ...}")
        secrets = self.tree.get("secrets")
        if secrets is not None and secrets.kind == MAPPING:
            self.secrets = {key.text: value for key, value in secrets.pairs}
        targets: dict[str, Target] = {}
        for key, service in services.pairs:
            if (made := self._service(key, service)) is not None:
                targets[made.name] = made
        defaults = []
        for name, default in self.variables.defaults.items():
            sign, said = default or ("", Val(""))
            given = self.variables.given(name)
            if given is not None and not (sign == ":-" and not given):
                said = Val(given)
            defaults.append(Default(name, said, self.places[name], sign == ":-"))
        groups = {"default": Group("default", tuple(targets), self._place(services))}
        return Bake(tuple(defaults), groups, targets, tuple(self.remarks))

    def _place(self, node: Node) -> Place:
        assert node.source is not None
        return node.source, node.line, node.column

    def remark(self, node: Node, message: str) -> None:
        self.remarks.append((self._place(node), message))

    # -- values ------------------------------------------------------------------------------------

    def text(self, node: Node, what: str) -> Val:
        if node.kind in (LIST, MAPPING):
            raise node.fault(f"{what} is {node.show()}, expected text")
        if node.kind == NULL:
            return Val(None)
        try:
            before = set(self.variables.defaults)
            found = self.variables.value(node.text)
        except Wrong as wrong:
            raise node.fault(f"{what}: {wrong.message}", wrong.hint) from None
        for name in self.variables.defaults:
            if name not in before:
                self.places[name] = self._place(node)
        return found

    def pairs(self, node: Node, what: str) -> Val:
        if node.kind not in (LIST, MAPPING):
            raise node.fault(f"{what} is {node.show()}, expected a mapping or a list of NAME=VALUE")
        made: dict[str, Val] = {}
        for key, value in as_mapping(node).pairs:
            if value.kind == NULL and what == "args":
                self.remark(
                    key, f"the argument {key.text} has no value here: --set {key.text}=... gives it"
                )
            if value.kind == LIST:  # several addresses of a host
                made[key.text] = Val(",".join(each.text for each in value.items))
            else:
                made[key.text] = self.text(value, f"{what} {quote(key.text)}")
        return Val(made)

    def items(self, node: Node, what: str) -> Val:
        if node.kind != LIST:
            raise node.fault(f"{what} is {node.show()}, expected a list")
        return Val([self.text(each, f"an entry of {what}") for each in node.items])

    def truth(self, node: Node, what: str) -> Val:
        found = self.text(node, what)
        if node.kind != BOOL and found.data not in ("true", "false"):
            raise node.fault(f"{what} is {node.show()}, expected true or false")
        return Val(str(found.data).lower() == "true")

    # -- services ----------------------------------------------------------------------------------

    def _service(self, key: Node, service: Node) -> Target | None:
        if service.kind != MAPPING:
            raise service.fault(
                f"service {quote(key.text)} is {service.show()}, expected a mapping"
            )
        build = service.get("build")
        if build is None or build.kind == NULL:
            self.remark(key, f"service {quote(key.text)} is left out: it has no build section")
            return None
        build = as_build(build)
        if build.kind != MAPPING:
            raise build.fault(f"build is {build.show()}, expected a folder or a mapping")
        said: dict[str, Said] = {}
        for name, value in build.pairs:
            if name.text not in KNOWN and not name.text.startswith("x-"):
                near = did_you_mean(name.text, KNOWN)
                raise name.fault(f"there is no {quote(name.text)} in a build section{near}")
            self._one(said, name, value)
        image = service.get("image")
        if image is not None and image.kind != NULL:
            tag = self.text(image, "image")
            before = said["tags"].value.data if "tags" in said else []
            if tag.data and tag.data not in [each.data for each in before]:
                said["tags"] = Said(Val([tag, *before]), self._place(image))
        return Target(key.text, self._place(key), said)

    def _one(self, said: dict[str, Said], name: Node, value: Node) -> None:
        place, word = self._place(name), name.text
        if value.kind == NULL and word != "x-bake":
            return
        if word in _TEXTS:
            said[_TEXTS[word]] = Said(self.text(value, word), place)
        elif word in _MAPS:
            found = self.pairs(value, word)
            if word == "additional_contexts":
                found = Val({key: _of_service(each) for key, each in found.data.items()})
            said[_MAPS[word]] = Said(found, place)
        elif word in _LISTS:
            said[_LISTS[word]] = Said(self.items(value, word), place)
        elif word in _TRUTHS:
            said[_TRUTHS[word]] = Said(self.truth(value, word), place)
        elif word == "secrets":
            said["secret"] = Said(self._secrets(value), place)
        elif word == "ssh":
            said["ssh"] = Said(self._ssh(value), place)
        elif word == "x-bake" and value.kind == MAPPING:
            self._bake(said, value)
        elif not word.startswith("x-"):
            self.remark(name, f"{word} is left out: {_WHY.get(word, 'nothing here says it')}")

    def _secrets(self, node: Node) -> Val:
        made = []
        for each in node.items if node.kind == LIST else [node]:
            source = each.get("source") if each.kind == MAPPING else each
            if source is None or source.kind in (LIST, MAPPING, NULL):
                raise each.fault("a secret has no name", "write the name of one of the secrets")
            name = source.text
            given = self.secrets.get(name)
            if given is None:
                near = did_you_mean(name, list(self.secrets))
                raise source.fault(f"there is no secret {quote(name)} at the top{near}")
            target = each.get("target") if each.kind == MAPPING else None
            words = {"id": Val(target.text if target is not None else name)}
            for key, word in (("file", "src"), ("environment", "env")):
                value = given.get(key) if given.kind == MAPPING else None
                if value is not None:
                    words[word] = self.text(value, f"{key} of a secret")
            if len(words) == 1:
                self.remark(
                    source,
                    f"secret {quote(name)} has no file and no environment: --secret gives it",
                )
            made.append(Val(words))
        return Val(made)

    def _ssh(self, node: Node) -> Val:
        if node.kind == MAPPING:
            return Val([Val(f"{key.text}={value.text}") for key, value in node.pairs])
        return self.items(node, "ssh")

    def _bake(self, said: dict[str, Said], node: Node) -> None:
        """`x-bake`: what bake reads beside the build section."""
        for key, value in node.pairs:
            word, place = key.text, self._place(key)
            if word in ("tags", "platforms"):
                found = self.items(value, word) if value.kind == LIST else Val(
                    [self.text(each, word) for each in [value]]
                )  # fmt: skip
                before = said[word].value.data if word in said else []
                known = [each.data for each in before]
                more = [each for each in found.data if each.data not in known]
                said[word] = Said(Val([*before, *more]), place)
            elif word == "contexts":
                found = self.pairs(value, word)
                before = said["contexts"].value.data if "contexts" in said else {}
                said["contexts"] = Said(Val({**found.data, **before}), place)
            elif word in ("no-cache", "pull"):
                said[word] = Said(self.truth(value, word), place)
            elif word in ("secret", "ssh", "output", "cache-from", "cache-to", "no-cache-filter"):
                texts = (
                    self.items(value, word) if value.kind == LIST else Val([self.text(value, word)])
                )
                before = said[word].value.data if word in said else []
                said[word] = Said(Val([*before, *texts.data]), place)
            else:
                raise key.fault(f"there is no {quote(word)} in x-bake")


def _of_service(value: Val) -> Val:
    text = str(value.data)
    return Val("target:" + text[8:]) if text.startswith("service:") else value


_WHY = {
    "privileged": "commands have no more rights than an image needs",
    "ulimits": "a command's limits are those of the builder",
    "provenance": "no attestations are written",
    "sbom": "no attestations are written",
    "isolation": "it is for Windows",
}
