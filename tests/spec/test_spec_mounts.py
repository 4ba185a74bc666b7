"""Mounts of a command step: what each becomes, and what is said of those that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from builder.errors import SpecErrors
from builder.spec.model import BaseRef, ImageSpec, Place
from builder.spec.mounts import Bind, Cache, Secret, Ssh, Tmpfs

Read = Callable[..., ImageSpec]
AT = Place("s.yaml", 0, 0)
NGINX = BaseRef("registry", "nginx", AT)

MOUNTS = [
    ("{bind: ., target: /src}", Bind(AT, "/src", (".",))),
    ("{bind: go.mod, target: go.mod}", Bind(AT, "go.mod", ("go.mod",))),
    ("{bind: [a, b], target: /s}", Bind(AT, "/s/", ("a", "b"))),
    ("{bind: '*.c', target: /s/}", Bind(AT, "/s/", ("*.c",))),
    ("{bind: usr, from: nginx, target: /n}", Bind(AT, "/n", ("/usr",), NGINX)),
    ("{cache: go, target: /go}", Cache(AT, "/go", "go")),
    (
        "{cache: go, target: /go, sharing: locked, mode: '700', owner: 'a:b', seed: nginx}",
        Cache(AT, "/go", "go", "locked", "700", "a:b", NGINX),
    ),
    ("{secret: npm}", Secret(AT, "npm")),
    ("{secret: npm, target: /srv/.npmrc}", Secret(AT, "npm", "/srv/.npmrc")),
    ("{secret: t, env: T, rotate: true}", Secret(AT, "t", env="T", rotate=True)),
    ("{secret: t, required: false}", Secret(AT, "t", required=False)),
    ("ssh", Ssh(AT)),
    ("{ssh: deploy}", Ssh(AT, "deploy")),
    ("{tmpfs: /tmp}", Tmpfs(AT, "/tmp")),
    ("{tmpfs: /tmp, size: 64m}", Tmpfs(AT, "/tmp", 64 << 20)),
    ("{tmpfs: /tmp, size: 1gb}", Tmpfs(AT, "/tmp", 1 << 30)),
    ("{tmpfs: '/{{ v }}', size: 4096}", Tmpfs(AT, "/x", 4096)),
]


def placeless(mount: Any) -> Any:
    for field in ("origin", "seed"):
        if getattr(mount, field, None):
            mount = mount._replace(**{field: getattr(mount, field)._replace(place=AT)})
    return mount._replace(place=AT)


@pytest.mark.parametrize(("text", "value"), MOUNTS)
def test_a_mount_becomes(text: str, value: Any, read: Read) -> None:
    spec = read(f"from: scratch\nvars: {{v: x}}\nsteps: [{{run: x, mounts: [{text}]}}]\n")
    (found,) = spec.steps[0].mounts  # type: ignore[attr-defined]
    assert placeless(found) == value


FAULTS = [
    ("{bind: a, target: /}", "'/' is the image's root"),
    ("{cache: a, target: /proc/x}", "'/proc/x' lies in /proc"),
    ("{tmpfs: /dev}", "'/dev' lies in /dev"),
    ("{tmpfs: /sys/}", "'/sys/' lies in /sys"),
    ("{cache: a/b, target: /x}", "'a/b' is not a name"),
    ("{cache: a, target: /x, sharing: lock}", "did you mean 'locked'?"),
    ("{cache: a, target: /x, mode: u=rwx}", "'u=rwx' is symbolic"),
    ("{bind: ../a, target: /x}", "'../a' leaves the context"),
    ("{bind: a}", "missing key 'target' in a 'bind' mount"),
    ("{tmpfs: /x, size: many}", "'many' is not a size"),
    ("{secret: a, target: /x/}", "the target of a secret is a file"),
    ("{secret: a, env: A=B}", "'A=B' is not a name of an environment variable"),
    ("{chache: a, target: /x}", "did you mean 'cache'?"),
    ("sssh", "found 'sssh', expected a mount"),
    ("{tmpfs: /x}, {cache: a, target: /x/}", "the target '/x' is that of line 2, too"),
    ("{cache: a, target: /y}, {cache: a, target: /x}", "the cache 'a' is that of line 2, too"),
]


@pytest.mark.parametrize(("text", "fault"), FAULTS)
def test_what_is_said_of(text: str, fault: str, read: Read) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(f"from: scratch\nsteps: [{{run: x, mounts: [{text}]}}]\n")
    assert fault in " ".join(each.message + (each.hint or "") for each in caught.value.errors)


DOCKERS = [
    ("type=cache,target=/srv/.cache", "cache: srv-.cache, target: /srv/.cache"),
    (
        "--mount=type=cache,id=go,target=/go,sharing=locked",
        "cache: go, target: /go, sharing: locked",
    ),
    ("type=bind,target=/src", "bind: ., target: /src"),
    ("type=bind,from=build,source=/out,target=/in", "bind: /out, from: stage:build, target: /in"),
    ("type=secret,id=npm,dst=/srv/.npmrc", "secret: npm, target: /srv/.npmrc"),
    ("type=tmpfs,dst=/tmp", "tmpfs: /tmp"),
]


@pytest.mark.parametrize(("text", "ours"), DOCKERS)
def test_a_dockerfiles_words_are_told_in_ours(text: str, ours: str, read: Read) -> None:
    options = (each.partition("=") for each in text.removeprefix("--mount=").split(","))
    mapping = ", ".join(f"{name}: {value}" for name, _, value in options)
    for written in (f"'{text}'", f"{{{mapping}}}"):
        with pytest.raises(SpecErrors) as caught:
            read(f"from: scratch\nsteps: [{{run: x, mounts: [{written}]}}]\n")
        assert [each.hint for each in caught.value.errors] == [f"write {{{ours}}}"]
    read(f"from: scratch\nsteps: [{{run: x, mounts: [{{{ours}}}]}}]\n")
