"""What a Dockerfile becomes: specs that read back as the tree they were written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.dockerfile.convert import Converted, Wish, convert
from builder.dockerfile.idioms import apt
from builder.dockerfile.yaml import text_of
from builder.errors import SpecErrors
from builder.oci.image import Platform
from builder.spec.model import ImageSpec
from builder.spec.node import LIST, MAPPING, Node, parse_yaml
from builder.spec.reading import Given, Reading
from builder.spec.source import Problems, Source
from builder.steps import VERBS
from tests.dockerfile.cases import CASES

AMD64 = Platform("linux", "amd64")


def converted(text: str, **wish: Any) -> Converted:
    return convert(Source("Dockerfile", text.replace("\r\n", "\n")), Wish(**wish))


def plain(node: Node) -> Any:
    if node.kind == MAPPING:
        return {key.text: plain(value) for key, value in node.pairs}
    return [plain(each) for each in node.items] if node.kind == LIST else node.text


def read(found: Converted, **sets: str) -> ImageSpec:
    source = Source("app.yaml", text_of(found, []))
    (spec,) = Reading(source, Given(VERBS, {}, {}, sets, AMD64)).specs()
    return spec


TEXTS = {
    **{name: each.text.replace("{B}", "b:1").lstrip("\ufeff") for name, each in CASES.items()},
    "braces": "FROM a\nRUN echo '{{ x }}' ${#y} '{%' {\nENV A='{{' B={\nLABEL a=\"{# b\"\n",
    "long": "FROM a\nRUN " + " && ".join(f"echo {n}" for n in range(100)) + "\n",
    "lines of white space": "FROM a\nCOPY <<E /a\n\n  x\n \n\ty\n\nE\n",
    "keys": "FROM a\nLABEL 9=a no=b \"a b\"=c null=d true=e\nENV 1=2 null=3\n",
    "signs": "FROM a\nRUN echo \u00e4 \u2028 \x1b[0m\nLABEL a=': #' b='- x' c='' d=' ' e=no f=~\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_is_the_tree(name: str) -> None:
    found = converted(TEXTS[name])
    text = text_of(found, [])
    problems = Problems(Source("app.yaml", text))
    assert plain(parse_yaml(problems.source, problems)) == plain(found.top)
    assert not len(problems)
    assert text_of(converted(TEXTS[name]), []) == text
    read(found)


def test_a_stage_that_a_variable_names() -> None:
    text = (
        "ARG BASE=one\nARG DEBUG\nFROM x AS one\nENV A=1\nFROM y AS two\nFROM z AS on-amd64\n"
        "FROM ${BASE} AS three\nENV B=$A\nFROM on-$TARGETARCH AS four\nFROM three${DEBUG:+-debug}\n"
    )
    spec = read(converted(text))
    bases = {each.stage: str(each.base) for each in (*spec.stages, spec)}
    assert bases == {
        "one": "x", "two": "y", "on-amd64": "z", "three": "stage:one", "four": "stage:on-amd64",
        "": "stage:three",
    }  # fmt: skip
    assert next(each for each in spec.stages if each.stage == "three").config.env == {"B": "1"}
    given = converted(text, given={"BASE": "two"}, platform=AMD64)
    assert plain(given.top)["stages"]["three"]["from"] == "stage:two"
    assert set(plain(given.top)["stages"]) == {"two", "three"}


def test_what_is_said_by_hand() -> None:
    text = "FROM x AS one\nADD https://h/f /f\nADD https://h/r.git /r\nFROM y\nRUN true\n"
    found = converted(text)
    assert [each.place for each in found.remarks] == [(2, 5), (3, 5)]
    assert text_of(found, []).count("# builder: ADD of ") == 2
    converted(text, given={})  # the stage is not used
    with pytest.raises(SpecErrors) as caught:
        converted(text, given={}, target="one")
    assert [each.place.line for each in caught.value.errors if each.place] == [2, 3]


VERBS_OF_ADD = {
    "https://h/f": "download",
    "HTTPS://h/f": "download",
    "https://github.com/o/r/releases/f.gz": "download",
    "https://h/f?from=github.com/o/r": "download",
    "https://h/r.git/f": "download",
    "https://h/f?u=r.git": "download",
    "'https://h/f'": "download",
    "$WEB": "download",
    "${WEB}.gz": "download",
    "$WEB/$NONE": "download",
    "https://h/r.git": "git",
    "https://h/r.git?branch=x": "git",
    "https://h/r.git#x:d": "git",
    "github.com/o/r": "git",
    "git@h:o/r": "git",
    "me@h.net:o/r": "git",
    "ssh://h/r": "git",
    "git://h/r": "git",
    "$REPO": "git",
    "${WEB}.git": "git",
    "githubXcom/o": "copy",
    "./github.com/o/r": "copy",
    "a@b": "copy",
    "$NONE": "copy",
    "$FILE": "copy",
}


@pytest.mark.parametrize("source", VERBS_OF_ADD)
def test_what_an_add_is(source: str) -> None:
    head = "ARG WEB=https://h/f\nARG REPO=ssh://h/r\nARG FILE=f\nARG NONE"
    tree = plain(converted(f"FROM x\n{head}\nADD {source} /d/\n").top)
    assert next(iter(tree["steps"][0])) == VERBS_OF_ADD[source]


@pytest.mark.parametrize("base", ["$B", "${B}:1", "x:$B", "x/$B", "x@$B", "x:${B}${T}"])
def test_a_variable_that_names_the_base_must_be_given(base: str) -> None:
    found = converted(f"ARG B\nARG S\nARG T=1\nARG N=a\nFROM {base}$S\n")
    vars_ = {key.text: value.kind for key, value in found.top.pairs[0][1].pairs}
    assert vars_.pop("T") == vars_.pop("N") == "text"
    assert vars_["B"] == ("null" if base != "x:${B}${T}" else "text")


def test_a_variable_that_may_be_empty_in_the_base() -> None:
    for base in ("x$S", "x:1$S", "x-${S:-b}", "x-$TARGETARCH$S", "${S:-x}", "x${S:+-debug}"):
        spec = read(converted(f"ARG S\nFROM {base}\n"))
        assert str(spec.base).startswith("x")


def test_platforms_that_are_said() -> None:
    for said in ("$BUILDPLATFORM", "$TARGETPLATFORM", "linux/$TARGETARCH"):
        assert not converted(f"FROM --platform={said} x AS a\nFROM a\n").remarks
    assert len(converted("FROM --platform=arm64 x AS a\nFROM a\n").remarks) == 1


def test_a_document_that_is_indented_is_a_block() -> None:
    found = converted("FROM a\nRUN <<E\n  if x; then\n    y\n  fi\nE\n")
    assert "  - run: |2\n        if x; then\n          y\n        fi\n" in text_of(found, [])


def test_settings_before_and_after_the_first_command() -> None:
    spec = read(converted(
        "FROM x\nENV A=1\nUSER u\nWORKDIR /w\nSHELL [\"/bin/bash\", \"-c\"]\nRUN a\nENV A=2\n"
        "USER v\nWORKDIR x\nENV PATH=/p:$PATH\nRUN b\nENV PATH=/q:$PATH\nCMD c\n"
    ))  # fmt: skip
    assert (spec.config.env, spec.config.user, spec.config.working_dir) == ({"A": "1"}, "u", "/w")
    assert spec.config.cmd == ("/bin/bash", "-c", "c")
    assert [step.verb for step in spec.steps] == ["run", "set", "run", "set"]
    first, last = spec.steps[1].values(), spec.steps[3].values()
    assert first == ({"A": "2"}, "v", "/w/x", ("/p",), None)
    assert last == ({}, None, None, ("/q",), None)


FILES = sorted((Path(__file__).parent / "files").glob("*.Dockerfile"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_projects_become_specs(path: Path) -> None:
    found = converted(path.read_text().replace("{B}", "base:1"))
    text = text_of(found, [])
    for comment in ("# for psycopg", "# ONBUILD"):
        assert comment not in text
    spec = read(found)
    assert spec.steps


IDIOMS = {
    "apt-get update && apt-get install -y --no-install-recommends bb aa bb && rm -rf "
    "/var/lib/apt/lists/*": (("bb", "aa"), False),
    "apt-get -qq update && apt-get install -y g++=4:12* libc6:amd64 && apt-get clean": (
        ("g++=4:12*", "libc6:amd64"), True,
    ),
    "apt-get install -y aa && make": None,
    "apt-get install -y $A": None,
    "apt-get update": None,
    "apt-get install -y aa && rm -rf /etc": None,
    "apt-get install -y aa; true": None,
    "apt-get install -y -t backports a": None,
}  # fmt: skip


@pytest.mark.parametrize("command", IDIOMS)
def test_idioms(command: str) -> None:
    assert apt(command) == IDIOMS[command]
    text = f"FROM x\n# tools\nRUN {command}\nCOPY a /a\nCOPY b* /b/\n"
    first, copy, globs = plain(converted(text, idiomatic=True).top)["steps"]
    assert ("apt" in first) == (IDIOMS[command] is not None) and first["name"] == "tools"
    assert "rules" not in copy and globs["rules"] == "docker"
    assert "apt" not in plain(converted(text).top)["steps"][0]


@pytest.mark.parametrize(
    ("flags", "is_apt"),
    [
        (("type=cache,target=/var/cache/apt,sharing=locked",), True),
        (("type=cache,target=/var/cache/apt/", "type=cache,dst=/var/lib/apt,id=lists"), True),
        (("type=cache,target=/var/cache/apt", "type=secret,id=apt"), False),
        (("type=cache,target=/root/.cache",), False),
        (("type=tmpfs,target=/var/cache/apt",), False),
    ],
)
def test_caches_of_apt_are_the_steps_own(flags: tuple[str, ...], is_apt: bool) -> None:
    mounts = "".join(f"--mount={flag} " for flag in flags)
    text = f"FROM x\nRUN {mounts}apt-get update && apt-get install -y curl\n"
    (step,) = plain(converted(text, idiomatic=True).top)["steps"]
    assert ("apt" in step, "mounts" in step) == (is_apt, not is_apt)
    (step,) = plain(
        converted(text.replace("--mount", "--network=none --mount", 1), idiomatic=True).top
    )["steps"]
    assert "run" in step


def test_names_of_stages() -> None:
    text = (
        "FROM a AS x\nRUN a\nFROM x AS x\nCOPY --from=x / /\nFROM b AS a__-\n"
        "FROM x\nCOPY --from=0 a b\nCOPY --from=2 a b\n"
    )
    spec = read(converted(text))
    made = {each.stage: (str(each.base), *map(str, each.refs[1:])) for each in (*spec.stages, spec)}
    assert made == {
        "x": ("a",), "x-1": ("stage:x", "stage:x"), "stage-2": ("b",),
        "": ("stage:x-1", "stage:x", "stage:stage-2"),
    }  # fmt: skip


def test_the_example_of_the_docs_is_what_is_written() -> None:
    docs = (Path(__file__).parents[2] / "docs/from-dockerfile.md").read_text()
    before, after = (
        docs.split(f"```{kind}\n")[1].split("```")[0] for kind in ("dockerfile", "yaml")
    )
    assert text_of(converted(before, excludes=("specs/app.yaml",)), []) == after


def test_defaults_of_several_stages() -> None:
    text = (
        "ARG G=1\nFROM x:$G AS a\nARG V=1\nARG G=2\nRUN echo $V\nFROM a AS b\nRUN echo $V\n"
        "FROM y AS c\nARG V\nRUN echo\nFROM z:$G\nARG V=2\nARG G\nRUN echo\n"
    )
    found = converted(text)
    assert [each.message for each in found.remarks] == ["ARG G is '2' here, whatever --set says"]

    def environments(spec: ImageSpec) -> dict[str, Any]:
        return {each.stage: each.steps[0].values()[1] for each in (*spec.stages, spec)}

    spec = read(found)
    assert str(spec.base) == "z:1"
    assert environments(spec) == {
        "a": {"V": "1", "G": "2"}, "b": {"V": "1", "G": "2"}, "c": {"V": ""},
        "": {"V": "2", "G": "1"},
    }  # fmt: skip
    given = environments(read(found, V="9", G="8"))
    assert given == {
        "a": {"V": "9", "G": "2"}, "b": {"V": "9", "G": "2"}, "c": {"V": "9"},
        "": {"V": "9", "G": "8"},
    }  # fmt: skip
