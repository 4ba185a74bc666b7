"""Files that are made to hurt end within seconds, in one line with a place."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from builder.bake import compose
from builder.bake.files import load, specs_of
from builder.errors import SpecErrors
from builder.spec.source import Problems, Source
from tests.bake.reading import wrong

_T = 'target "t" { tags = [%s] }'
_BOMB = "".join(
    f'variable "V{n}" {{ default = "${{V{n - 1}}}${{V{n - 1}}}" }}\n' for n in range(1, 40)
)
_LISTS = "".join(
    f'variable "V{n}" {{ default = concat(V{n - 1}, V{n - 1}) }}\n' for n in range(1, 40)
)
_CHAIN = "".join(f'target "t{n}" {{ inherits = ["t{n + 1}"] }}\n' for n in range(900))
_FANS = "".join(f'target "t{n}" {{ inherits = ["t{n + 1}", "t{n + 1}"]\n }}\n' for n in range(35))

HCL = {
    "brackets": _T % ("(" * 100_000),
    "lists": _T % ("[" * 100_000),
    "objects": _T % ("{a=" * 50_000),
    "calls": _T % ("upper(" * 50_000),
    "texts": _T % ('"${' * 50_000),
    "blocks": "target a {\n" * 50_000,
    "minuses": _T % ("-" * 100_000 + "1"),
    "sums": _T % ("1+" * 100_000 + "1"),
    "choices": _T % ("true ? 1 : " * 50_000 + "1"),
    "indices": _T % ("a" + "[0]" * 50_000),
    "names": _T % ("a" + ".b" * 50_000),
    "ifs": _T % ('"' + "%{ if true }" * 20_000 + '"'),
    "a text": _T % ('"' + "x" * 900_000),
    "a comment": "/*" + "*" * 900_000,
    "a here-document": 'a = <<E\n' + "x\n" * 400_000,
    "doubled texts": 'variable "V0" { default = "xxxxxxxx" }\n' + _BOMB + _T % "V39",
    "doubled lists": 'variable "V0" { default = ["x"] }\n' + _LISTS + _T % "V39[0]",
    "a matrix": 'target "t" {\n name = "x${a}${b}${c}"\n matrix = {\n'
    + "\n".join(f"{name} = range(1000)" for name in "abc") + "\n}\n}",
    "a loop": _T % "[for a in range(999) : [for b in range(999) : [for c in range(999) : a]]]...",
    "loops": _T % "length([for a in range(1000) : [for b in range(1000) : b]])",
    "products": _T % "length(setproduct(range(1000), range(1000), range(1000)))",
    "a power": _T % "pow(10, 100000000)",
    "a number": _T % "1e999999999",
    "a wide format": _T % 'format("%999999999s", "x")',
    "an indent": _T % 'indent(999999999, "a\\nb")',
    "replaced": _T % 'replace("%s", "", "%s")' % ("x" * 100_000, "y" * 100_000),
    "a range": _T % "range(0, 1000000000)",
    "a slow pattern": _T % 'regex("(a+)+$", "%s!")' % ("a" * 5000),
    "a slower pattern": _T % 'regex("a*a*a*a*a*a*b", "%s")' % ("a" * 5000),
    "a choice in a loop": _T % 'regex("(a|a|aa)*$", "%s!")' % ("a" * 5000),
    "inherited": _CHAIN + 'target "t900" {}',
    "inherited twice": _FANS + 'target "t35" { inherits = ["none"] }',
    "a circle": 'target "a" { inherits = ["b"] }\ntarget "b" { inherits = ["a"] }',
    "variables": "".join(f'variable "v{n}" {{ default = v{n + 1} }}\n' for n in range(2000)),
    "functions": "".join(
        f'function "f{n}" {{\n params = [a]\n result = f{n + 1}(f{n + 1}(a))\n}}\n'
        for n in range(40)
    ) + 'function "f40" {\n params = [a]\n result = a\n}\n' + _T % 'f0("x")',
    "JSON in a text": _T % ('jsondecode("%s")' % ("[" * 100_000)),
    "NUL in a name": _T % '"\\u0000TAG${x}"',
    "targets": "".join(f'target "t{n}" {{}}\n' for n in range(2000)),
}  # fmt: skip


@pytest.mark.parametrize("name", HCL)
def test_a_hostile_bake_file_ends_in_one_line(name: str) -> None:
    start = time.monotonic()
    told = wrong(HCL[name])
    assert time.monotonic() - start < 10
    assert "\n" not in told
    assert len(told) < 400


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"target":' * 20_000,
        json.dumps({"target": {"t": {"tags": ["${" * 20_000]}}}),
        json.dumps({"target": {f"t{n}": {} for n in range(2000)}}),
        json.dumps({"a": ["x"] * 200_000}),
    ],
    ids=range(5),
)
def test_a_hostile_json_file_ends_in_one_line(text: str) -> None:
    start = time.monotonic()
    assert "\n" not in wrong(text, "docker-bake.json")
    assert time.monotonic() - start < 10


_LAUGHS = "".join(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
COMPOSE = {
    "aliases": "x-0: &a0 [x]\n" + _LAUGHS + "services: {}",
    "merges": "x-0: &a0 {a: 1}\n"
    + "".join(f"x-{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    + "services: {}",
    "depth": "services: " + "[" * 100_000,
    "defaults": "services:\n a:\n  build: {target: '" + "${A:-" * 20_000 + "'}",
    "doubled": "services:\n a:\n  build:\n   target: " + "$A" * 300_000,
    "extended": "services:\n"
    + "".join(f" s{n}: {{extends: s{n + 1}}}\n" for n in range(2000)) + " s2000: {build: .}\n",
    "included": "include: [compose.yaml]\nservices: {}",
    "devices": "include: [/dev/zero]\nservices: {}",
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSE)
def test_a_hostile_compose_file_ends_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE[name])
    start = time.monotonic()
    source = Source(str(path), COMPOSE[name])
    try:
        with Problems(source).collected():
            compose.read([source], str(tmp_path), {"A": "x" * 1000}, load)
    except SpecErrors as errors:
        assert all("\n" not in each.what for each in errors.errors)
    else:
        raise AssertionError("no error")
    assert time.monotonic() - start < 10


def _doubled(kind: str, count: int, more: str = "") -> str:
    """Each of two stands on both of the next."""
    return "".join(
        f'{kind} "{a}{n}" {{ {more}\n {_LINK[kind] % (n + 1, n + 1)}\n}}\n'
        for n in range(count)
        for a in "ab"
    )


_LINK = {
    "target": 'inherits = ["a%d", "b%d"]',
    "group": 'targets = ["a%d", "b%d"]',
}
_LEAF = ' dockerfile-inline = "FROM scratch"\n'
BIG = {
    "targets": _doubled("target", 35, _LEAF + ' cache-from = ["x", "y"]')
    + "".join(f'target "{a}35" {{\n{_LEAF}}}\n' for a in "ab"),
    "groups": _doubled("group", 200) + "".join(f'target "{a}200" {{\n{_LEAF}}}\n' for a in "ab"),
    "contexts": "".join(
        f'target "{a}{n}" {{\n{_LEAF}'
        f' contexts = {{ x = "target:a{n + 1}", y = "target:b{n + 1}" }}\n}}\n'
        for n in range(200)
        for a in "ab"
    )
    + "".join(f'target "{a}200" {{\n{_LEAF}}}\n' for a in "ab"),
    "a matrix": 'target "t" {\n name = "t${n}"\n matrix = { n = range(1000) }\n' + _LEAF + "}\n",
    "names": "".join(f'target "{"A" * n}" {{\n{_LEAF}}}\n' for n in range(1, 200)),
}  # fmt: skip


@pytest.mark.parametrize("name", BIG)
def test_a_large_file_is_converted_in_time(tmp_path: Path, name: str) -> None:
    path = tmp_path / "docker-bake.hcl"
    path.write_text(BIG[name])
    start = time.monotonic()
    made = specs_of([str(path)], str(tmp_path))
    assert time.monotonic() - start < 20
    assert made.specs
