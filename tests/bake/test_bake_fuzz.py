"""Files that were cut, doubled and mixed up are converted, or told of in an error with a place."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from builder.bake.files import specs_of
from builder.errors import BuilderError, SpecErrors
from builder.spec.node import parse_yaml
from builder.spec.source import Problems, decode
from tests.bake.test_convert import _BAKE, _COMPOSE

_ROUNDS = int(os.environ.get("BAKE_ROUNDS", "250"))
_JSON = """{"variable": {"TAG": {"default": "v${N}"}, "N": {"default": 1, "type": "number"}},
"function": {"f": {"params": ["x"], "variadic_params": "y", "result": "${x}-${join(\\"\\", y)}"}},
"group": {"default": {"targets": ["a"]}},
"target": {"a": [{"name": "a-${x}", "matrix": {"x": ["1", "2"]}, "inherits": ["b"],
  "args": {"X": "${x}", "T": "%{ if N > 1 }y%{ else }n%{ endif }", "N": null},
  "tags": ["${f(\\"r/a\\", TAG, x)}"], "platforms": ["linux/amd64"],
  "output": [{"type": "docker"}]}],
 "b": {"dockerfile-inline": "FROM scratch\\nARG X\\nLABEL x=$X", "secret": ["id=x,env=Y"]}}}
"""
_MORE = """
target "x" {
  contexts = { a = "docker-image://alpine:${TAG}", b = "oci-layout://x", c = null }
  dockerfile-inline = <<-EOT
    FROM a AS q
    FROM scratch
    COPY --from=q / /
    %{ for i, v in ["p", "q"] ~}
    LABEL ${v}=${i}
    %{ endfor ~}
  EOT
  args = merge({ A = -1.5 }, { for k, v in { B = 2 } : upper(k) => v if v != 3 })
  tags = formatlist("%s:%05d", [for t in split(",", "a,b"): trimspace(t)], 3)
  secret = [{ id = "s", src = "f" }, "type=env,id=e"]
  network = "none"
  ulimits = flatten([["a"], "b"])
}
"""
_FILES = {
    "docker-bake.hcl": _BAKE + _MORE,
    "docker-bake.json": _JSON,
    "compose.yaml": _COMPOSE,
}
_PARTS = (
    *(
        "${",
        "%{",
        "}",
        "{",
        "[",
        "]",
        "(",
        ")",
        '"',
        "<<E",
        "\n",
        "=",
        ":",
        "?",
        ".",
        "*",
        "...",
        ",",
    ),
    *("null", "true", "1e99", "-", "!", "for x in", "if", "else", "~", "\\", "\\u", "$", "#", "/*"),
    *(
        "target",
        "TAG",
        "inherits",
        "matrix",
        "<<",
        "&a",
        "*a",
        "!reset",
        "\t",
        " ",
        "é",
        "\x00",
        "'",
    ),
)


def _mixed(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        to = min(to, at + rng.choice((1, 3, 10, 200)))
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + text[to:]
        elif kind == 1:
            text = text[:at] + rng.choice(_PARTS) + text[at:]
        elif kind == 2:
            text = text[:to] + text[at:to] + text[to:]
        else:
            text = text[:at] + rng.choice(_PARTS) + text[to:]
    return text


@pytest.mark.parametrize("name", _FILES)
def test_a_broken_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text(
        "ARG VERSION\nFROM lib AS app\nLABEL v=$VERSION\nFROM scratch AS other\n"
    )
    rng = random.Random(int(os.environ.get("BAKE_SEED", "5")))
    told = made = 0
    for _ in range(_ROUNDS):
        text = _mixed(rng, _FILES[name])
        path = tmp_path / name
        path.write_text(text)
        try:
            found = specs_of([str(path)], str(tmp_path))
            for each in (*found.specs.values(), found.project or "{}"):
                problems = Problems(source := decode("made.yaml", each.encode()))
                with problems.collected():
                    parse_yaml(source, problems)
            made += 1
        except SpecErrors as errors:
            told += 1
            for error in errors.errors:
                assert error.place, text
                assert error.place.file != "made.yaml", text
                assert "\n" not in error.what
        except BuilderError as error:
            assert "\n" not in error.what
        except Exception as error:  # what is wrong with the text is part of the failure
            raise AssertionError(text) from error
    assert told > _ROUNDS // 10
    assert made > _ROUNDS // 60
