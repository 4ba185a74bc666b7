"""Bake files: every documented block and attribute, and how several become one."""

from __future__ import annotations

import json

import pytest

from builder.bake.values import plain
from tests.bake.reading import bake_of, one, printed, wrong


def test_a_target_says_all_that_bake_knows() -> None:
    assert one("""
        target "t" {
          description = "the app"
          context = "app"
          contexts = { base = "docker-image://debian:12", lib = "target:lib" }
          dockerfile = "Other.Dockerfile"
          dockerfile-inline = <<EOT
FROM scratch
EOT
          args = { A = "x", B = 3, C = true, D = null }
          labels = { "a.b" = "c" }
          tags = ["a:1", "a:2"]
          target = "prod"
          platforms = ["linux/amd64", "linux/arm64"]
          cache-from = ["type=gha", { type = "registry", ref = "a/cache" }]
          cache-to = ["type=inline"]
          output = ["type=docker"]
          secret = ["id=a,src=b", { type = "env", id = "c" }]
          ssh = ["default"]
          no-cache = true
          no-cache-filter = ["prod"]
          pull = "true"
          network = "none"
          annotations = ["index:a=b"]
          attest = ["type=sbom"]
          call = "check"
          entitlements = ["network.host"]
          extra-hosts = { h = "10.0.0.1" }
          shm-size = "128m"
          ulimits = ["nofile=1024:1024"]
        }
    """) == {
        "description": "the app",
        "context": "app",
        "contexts": {"base": "docker-image://debian:12", "lib": "target:lib"},
        "dockerfile": "Other.Dockerfile",
        "dockerfile-inline": "FROM scratch\n",
        "args": {"A": "x", "B": 3, "C": True, "D": None},
        "labels": {"a.b": "c"},
        "tags": ["a:1", "a:2"],
        "target": "prod",
        "platforms": ["linux/amd64", "linux/arm64"],
        "cache-from": ["type=gha", {"type": "registry", "ref": "a/cache"}],
        "cache-to": ["type=inline"],
        "output": ["type=docker"],
        "secret": ["id=a,src=b", {"type": "env", "id": "c"}],
        "ssh": ["default"],
        "no-cache": True,
        "no-cache-filter": ["prod"],
        "pull": True,
        "network": "none",
        "annotations": ["index:a=b"],
        "attest": ["type=sbom"],
        "call": "check",
        "entitlements": ["network.host"],
        "extra-hosts": {"h": "10.0.0.1"},
        "shm-size": "128m",
        "ulimits": ["nofile=1024:1024"],
    }  # fmt: skip


def test_what_is_inherited_is_merged_in_order() -> None:
    found = one("""
        target "a" {
          args = { X = "a", Y = "a" }
          tags = ["a"]
          labels = { l = "a" }
          cache-from = ["a"]
          platforms = ["linux/amd64"]
          context = "a"
        }
        target "b" {
          inherits = ["a"]
          args = { X = "b", Z = "b" }
          tags = ["b"]
          cache-from = ["b"]
        }
        target "c" { args = { Z = "c" } }
        target "t" {
          inherits = ["b", "c"]
          args = { Q = "t", X = null }
          target = "t"
        }
    """)
    assert found == {
        "args": {"X": "b", "Y": "a", "Z": "c", "Q": "t"},
        "tags": ["b"],
        "labels": {"l": "a"},
        "cache-from": ["a", "b"],
        "platforms": ["linux/amd64"],
        "context": "a",
        "target": "t",
    }  # fmt: skip


def test_a_null_gives_way() -> None:
    found = one("""
        target "a" { target = "x" }
        target "t" {
          inherits = ["a"]
          target = null
          contexts = false ? { a = "b" } : null
        }
    """)
    assert found == {"target": "x"}


def test_files_are_merged_in_their_order() -> None:
    bake = bake_of(
        'variable "V" { default = "1" }\n'
        'group "default" { targets = ["t"] }\n'
        'target "t" {\n  args = { A = V, B = "x" }\n  tags = ["a"]\n}\n',
        'V = "2-${W}"\nW = "w"\n',
        json.dumps({"target": {"t": {"args": {"B": "${V}"}, "tags": ["b"]}, "u": {"tags": ["u"]}}}),
        names=("docker-bake.hcl", "env.hcl", "docker-bake.override.json"),
    )
    assert printed(bake) == {
        "t": {"args": {"A": "2-w", "B": "2-w"}, "tags": ["b"]},
        "u": {"tags": ["u"]},
    }


def test_json_says_the_same_as_hcl() -> None:
    hcl = bake_of("""
        variable "TAG" { default = "v${N}" }
        variable "N" { default = 1 }
        function "image" {
          params = [name]
          variadic_params = more
          result = join("-", concat([name], more))
        }
        group "default" { targets = ["a"] }
        target "a" {
          name = "a-${x}"
          matrix = { x = ["1", "2"] }
          args = { X = x, T = TAG, U = "$${raw}" }
          tags = [image("r/a", TAG, x)]
        }
    """)
    as_json = bake_of(
        json.dumps(
            {
                "variable": {"TAG": {"default": "v${N}"}, "N": {"default": 1}},
                "function": {
                    "image": {
                        "params": ["name"],
                        "variadic_params": "more",
                        "result": '${join("-", concat([name], more))}',
                    }
                },
                "group": {"default": {"targets": ["a"]}},
                "target": {
                    "a": {
                        "name": "a-${x}",
                        "matrix": {"x": ["1", "2"]},
                        "args": {"X": "${x}", "T": "${TAG}", "U": "$${raw}"},
                        "tags": ['${image("r/a", TAG, x)}'],
                    }
                },
            }
        ),
        names=("docker-bake.json",),
    )
    assert printed(hcl) == printed(as_json)
    assert printed(hcl)["a-2"] == {
        "args": {"X": "2", "T": "v1", "U": "${raw}"},
        "tags": ["r/a-v1-2"],
    }
    assert hcl.groups["a"].targets == ("a-1", "a-2")


def test_a_matrix_makes_all_combinations() -> None:
    bake = bake_of("""
        target "t" {
          name = "t-${os}-${item.n}"
          matrix = {
            os = ["deb", "alp"]
            item = [{ n = "x", v = "1" }, { n = "y", v = "2" }]
          }
          args = { V = item.v }
          target = os
        }
    """)
    assert printed(bake) == {
        f"t-{os}-{n}": {"args": {"V": v}, "target": os}
        for n, v in (("x", "1"), ("y", "2"))
        for os in ("deb", "alp")
    }


def test_variables_know_the_others_and_their_types() -> None:
    bake = bake_of("""
        variable "B" { default = "${A}-b" }
        variable "A" { default = "a" }
        variable "N" { default = 2 + 1 }
        variable "S" {
          type = string
          default = 5
          description = "told"
          validation {
            condition = S != ""
            error_message = "no"
          }
        }
        variable "L" { default = ["x", "y"] }
        variable "NOTHING" { default = null }
        variable "EMPTY" {}
        target "t" { args = { a = B, n = N, s = "${S}!", l = L[1], x = NOTHING, e = EMPTY } }
    """)
    assert printed(bake)["t"]["args"] == {
        "a": "a-b", "n": 3, "s": "5!", "l": "y", "x": None, "e": "",
    }  # fmt: skip
    assert [each.name for each in bake.variables][:2] == ["A", "B"]
    assert {each.name: plain(each.value) for each in bake.variables}["S"] == "5"
    assert [message for _, message in bake.remarks] == ["the validation of S is not kept"]


def test_a_target_may_look_at_another() -> None:
    found = one("""
        target "a" {
          args = { X = "1" }
          tags = ["a:1"]
        }
        target "t" { args = { Y = "${target.a.args.X}2", T = target.a.tags[0] } }
    """)
    assert found["args"] == {"Y": "12", "T": "a:1"}


def test_comments_stand_everywhere() -> None:
    assert one("""
        # one
        // two
        /* three
           lines */
        target "t" { # four
          tags = [ // five
            "a", /* six */ "b", # seven
          ]
          args = {
            # eight
            A = 1 # nine
          }
        }
    """) == {"tags": ["a", "b"], "args": {"A": 1}}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("target {}", "1:1: target has 0 names, expected one"),
        ('target "a b" {}', "1:1: target 'a b': expected letters, digits, '-' and '_'"),
        ('traget "a" {}', "1:1: there is no block 'traget', expected one of"),
        ('target "a" {\n  tag = ["x"]\n}', "2:3: there is no attribute 'tag' here, did you mean"),
        ('target "a" {\n  tags = "x"\n}', "2:3: tags is text, expected a list"),
        ('target "a" {\n  args = ["x"]\n}', "2:3: args is a list, expected an object"),
        ('target "a" {\n  tags = [[1]]\n}', "2:3: tags is a list, expected text"),
        ('target "a" {\n  pull = "yes"\n}', "2:3: pull is 'yes', expected true or false"),
        ('target "a" {\n  tags = [T]\n}', "2:11: there is no variable 'T'"),
        ('target "a" {\n  tags = [uper("x")]\n}', "2:11: there is no function 'uper', did you"),
        ('target "a" {\n  tags = ["${upper()}"]\n}', "2:14: upper(): 0 arguments, expected 1"),
        ('target "a" {\n  inherits = ["b"]\n}', "1:1: there is no target 'b'"),
        ('target "a" { inherits = ["a"] }', "1:1: targets inherit in a circle: a -> a"),
        ('variable "A" { default = B }\nvariable "B" { default = A }', "variable 'A' needs itself"),
        ('target "a" {\n  name = "x"\n}', "2:3: name is given, but there is no matrix"),
        ('target "a" {\n  matrix = { x = "y" }\n}', "2:3: matrix 'x' is text, expected a list"),
        (
            'target "a" {\n  matrix = { x = ["1", "2"] }\n}',
            "2:3: two rows of the matrix are called 'a'",
        ),
        ('target "a" {\n  tags = ["x\n"]\n}', "2:11: the text has no closing quote"),
        ('target "a" {\n  tags = ["x"\n', "3:1: the file ends here, expected ',' or ']'"),
        ('target "a" {', "1:13: the file ends within a block"),
        ('target "a" {\n  tags = <<E\nx\n}', "2:10: the here-document has no end"),
        ('target "a" {\n  x {}\n}', "2:3: a target has no block 'x'"),
        ('target "a" {\n  tags = []\n  tags = []\n}', "3:3: 'tags' is given twice"),
        ('group "g" { targets = "a" }', "1:13: targets is text, expected a list of texts"),
        ("/* a", "1:1: the comment has no end"),
        ("a = 1 2", "1:7: '2' stands here, expected the end of the line"),
        ('function "f" { result = 1 }', "1:1: function 'f' needs params and result"),
        (
            'function "f" {\n  params = [a]\n  result = f(a)\n}\ntarget "t" { tags = [f("x")] }',
            "more than 40 calls within each other: does it call itself?",
        ),
        ('target "a" { tags = [uuidv4()] }', "1:22: uuidv4() gives another value each time"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, error: str) -> None:
    assert error in wrong(text)


def test_what_is_wrong_in_json_is_told_with_its_place() -> None:
    assert wrong('{"target": {"a": {\n  "tags": ["${T}"]}}}', "a.json").startswith(
        "2:12: there is no"
    )
    assert wrong('{"target": []\n', "a.json") == "1:1: this { is not closed"
    assert wrong('{"target": {"a": {"tag": 1}}}', "a.json").startswith(
        "1:19: there is no attribute"
    )
    assert wrong("[]", "a.json") == "1:1: a list stands here, expected an object of targets"
