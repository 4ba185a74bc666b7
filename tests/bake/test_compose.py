"""Compose files: their build sections in all forms, and how several become one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.bake import compose
from builder.bake.files import load
from builder.bake.interpolate import env_file
from builder.bake.model import Bake
from builder.bake.values import plain
from builder.errors import SpecErrors
from builder.spec.source import Problems, Source


def _bake(folder: Path, *texts: str, env: str = "") -> Bake:
    sources = []
    for number, text in enumerate(texts):
        path = folder / ("compose.yaml" if not number else f"compose.{number}.yaml")
        path.write_text(text)
        sources.append(Source(str(path), text))
    with Problems(sources[0]).collected():
        return compose.read(sources, str(folder), env_file(env), load)
    raise AssertionError


def _said(bake: Bake) -> dict[str, dict[str, Any]]:
    return {
        name: {key: plain(said.value) for key, said in target.said.items()}
        for name, target in bake.targets.items()
    }


def test_a_build_section_says_all_that_compose_knows(tmp_path: Path) -> None:
    bake = _bake(
        tmp_path,
        """
        name: demo
        services:
          web:
            image: reg.example/web:1
            build:
              context: web
              dockerfile: Other.Dockerfile
              args: {A: "1", B: 2, C: true}
              target: prod
              platforms: [linux/amd64]
              tags: ["reg.example/web:2"]
              labels: [a.b=c, d]
              additional_contexts: [lib=./lib, base=service:base]
              secrets: [one, {source: two, target: other, mode: 0400}]
              ssh: [default]
              network: none
              shm_size: 64m
              extra_hosts: ["h=10.0.0.1"]
              cache_from: ["type=gha"]
              cache_to: ["type=inline"]
              pull: true
              no_cache: true
              privileged: true
              entitlements: [network.host]
              ulimits: {nofile: 1024}
              x-bake: {tags: ["reg.example/web:3"], platforms: linux/arm64, contexts: {q: ./q}}
            ports: ["80:80"]
            develop: {watch: [{path: ., action: sync}]}
          base: {build: {dockerfile_inline: "FROM scratch"}}
          db: {image: postgres}
        secrets:
          one: {file: ./one.txt}
          two: {environment: TWO}
        volumes: {data: {}}
        x-any: 1
        """,
    )
    assert _said(bake) == {
        "web": {
            "context": "web",
            "dockerfile": "Other.Dockerfile",
            "args": {"A": "1", "B": "2", "C": "true"},
            "target": "prod",
            "platforms": ["linux/amd64", "linux/arm64"],
            "tags": ["reg.example/web:1", "reg.example/web:2", "reg.example/web:3"],
            "labels": {"a.b": "c", "d": None},
            "contexts": {"lib": "./lib", "base": "target:base", "q": "./q"},
            "secret": [{"id": "one", "src": "./one.txt"}, {"id": "other", "env": "TWO"}],
            "ssh": ["default"],
            "network": "none",
            "shm-size": "64m",
            "extra-hosts": {"h": "10.0.0.1"},
            "cache-from": ["type=gha"],
            "cache-to": ["type=inline"],
            "pull": True,
            "no-cache": True,
            "entitlements": ["network.host"],
        },
        "base": {"dockerfile-inline": "FROM scratch"},
    }
    assert bake.groups["default"].targets == ("web", "base")
    messages = [message for _, message in bake.remarks]
    assert any("privileged is left out" in each for each in messages)
    assert any("'db' is left out: it has no build section" in each for each in messages)


def test_anchors_and_merge_keys_bring_values(tmp_path: Path) -> None:
    bake = _bake(
        tmp_path,
        """
        x-args: &args {A: "1", B: "1"}
        x-build: &build
          context: app
          args:
            <<: *args
            B: "2"
        services:
          one: {build: *build}
          two:
            build:
              <<: [*build, {target: t, context: no}]
              args: {<<: *args, C: "3"}
        """,
    )
    assert _said(bake) == {
        "one": {"context": "app", "args": {"A": "1", "B": "2"}},
        "two": {"context": "app", "target": "t", "args": {"A": "1", "B": "1", "C": "3"}},
    }


def test_services_extend_others_also_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "common.yaml").write_text(
        "services:\n"
        "  base:\n    extends: root\n    build: {context: app, args: {A: 1, B: 1}}\n"
        "  root:\n    build: {target: t, context: x}\n"
    )
    bake = _bake(
        tmp_path,
        """
        services:
          web:
            extends: {service: base, file: parts/common.yaml}
            image: web:1
            build:
              args: [B=2, C=3]
          api: {extends: {service: web}, build: {target: u}}
        """,
    )
    assert _said(bake) == {
        "web": {
            "context": "parts/app", "target": "t", "tags": ["web:1"],
            "args": {"A": "1", "B": "2", "C": "3"},
        },
        "api": {
            "context": "parts/app", "target": "u", "tags": ["web:1"],
            "args": {"A": "1", "B": "2", "C": "3"},
        },
    }  # fmt: skip


def test_further_files_and_includes_are_merged(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "compose.yaml").write_text("services: {lib: {build: {context: .}}}\n")
    bake = _bake(
        tmp_path,
        """
        include: [more/compose.yaml]
        services:
          web:
            image: web:1
            build: {context: web, args: {A: 1, B: 1}, tags: [a], target: t, labels: {x: y}}
        """,
        """
        services:
          web:
            build:
              args: [B=2]
              tags: [b]
              target: !reset null
              labels: !override {z: "1"}
          new: {build: other}
        """,
    )
    assert _said(bake) == {
        "lib": {"context": "more"},
        "web": {
            "context": "web", "args": {"A": "1", "B": "2"}, "tags": ["web:1", "a", "b"],
            "labels": {"z": "1"},
        },
        "new": {"context": "other"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "env", "expected"),
    [
        ("a$TAG", "TAG=x", "ax"),
        ("a${TAG}b", "TAG=x", "axb"),
        ("a${TAG}b", "", "ab"),
        ("${TAG:-d}", "", "d"),
        ("${TAG:-d}", "TAG=", "d"),
        ("${TAG:-d}", "TAG=x", "x"),
        ("${TAG-d}", "TAG=", ""),
        ("${TAG-d}", "", "d"),
        ("${TAG:+r}", "TAG=x", "r"),
        ("${TAG:+r}", "TAG=", ""),
        ("${TAG+r}", "TAG=", "r"),
        ("${TAG:?must}", "TAG=x", "x"),
        ("${TAG:-${OTHER:-d}}", "", "d"),
        ("${TAG:-a-${OTHER}}", "OTHER=o", "a-o"),
        ("$$TAG $${TAG}", "TAG=x", "$TAG ${TAG}"),
        ("${TAG:-}", "", ""),
        ("${TAG:-a:b}", "", "a:b"),
        ("x", "", "x"),
    ],
)
def test_variables_are_filled_in(tmp_path: Path, text: str, env: str, expected: str) -> None:
    bake = _bake(tmp_path, f"services:\n  a:\n    build:\n      target: '{text}'\n", env=env)
    assert _said(bake)["a"]["target"] == expected


def test_an_env_file_is_read_as_compose_reads_it() -> None:
    assert env_file(
        "# a note\n\nA=1\nexport B = two \nC='a $A b' # c\nD=\"x\\n$A\"\nE=$A-${B}\n"
        "F=a#b # c\nG=\nnonsense\nH: y\n"
    ) == {
        "A": "1", "B": "two", "C": "a $A b", "D": "x\n1", "E": "1-two", "F": "a#b", "G": "",
        "H": "y",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("services: [a]", "1:11: there are no services"),
        ("service: {}", "1:1: there is no 'service' at the top of a compose file, did you mean"),
        ("services: {a: x}", "1:15: service 'a' is 'x', expected a mapping"),
        ("services: {a: {build: [x]}}", "1:23: build is a list, expected a folder or a mapping"),
        ("services:\n a:\n  build:\n   contxt: x", "4:4: there is no 'contxt' in a build section"),
        ("services:\n a:\n  build:\n   args: x", "4:10: args is 'x', expected a mapping or a list"),
        ("services:\n a:\n  build:\n   target: [x]", "4:12: target is a list, expected text"),
        ("services:\n a:\n  build:\n   target: ${X", "4:12: target: '${X' has no }"),
        ("services:\n a:\n  build:\n   target: ${1}", "4:12: target: '${1}' names no variable"),
        (
            "services:\n a:\n  build:\n   no_cache: x",
            "4:14: no_cache is 'x', expected true or false",
        ),
        ("services:\n a:\n  build: {secrets: [x]}", "3:21: there is no secret 'x' at the top"),
        ("services:\n a: {extends: b}", "2:15: there is no service 'b'"),
        (
            "services:\n a: {extends: b}\n b: {extends: a}",
            "3:15: service 'a' extends itself, through",
        ),
        ("services:\n a: {extends: {service: a, file: no.yaml}}", "cannot read the file"),
        ("include: [compose.yaml]\nservices: {}", "1:1: more than 20 files include one another"),
        ("services:\n a: {<<: x}", "2:10: '<<' has 'x', expected a mapping"),
        ("services: {a: !x {}}", "1:15: tag '!x' is not allowed"),
        ("services: {a: &a [*a]}", "1:19: alias '*a' contains itself"),
        ("[", "1:"),
        ("", "1:1: the file is empty"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(SpecErrors) as raised:
        _bake(tmp_path, text)
    place = raised.value.errors[0].place
    assert place
    told = f"{place.line}:{place.column}: {raised.value.errors[0].what}"
    assert error in told
