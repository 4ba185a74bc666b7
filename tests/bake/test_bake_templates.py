"""What a template says of an expression holds for other values of its variables, too."""

from __future__ import annotations

import os
import random
from decimal import Decimal
from typing import Any

from builder.bake.values import MARK, Val, plain, shown
from builder.dockerfile.nodes import template
from builder.spec.render import Renderer
from builder.spec.source import Fault
from tests.bake.expressions import VARS, random_one, written
from tests.bake.reading import value

_ROUNDS = int(os.environ.get("BAKE_ROUNDS", "600"))
_SAID = ("TAG", "EMPTY", "REG", "N", "DEBUG", "OFF", "LIST")
_OTHERS = [
    {
        "TAG": "w.9",
        "EMPTY": "full",
        "REG": "r/",
        "N": 7,
        "DEBUG": False,
        "OFF": True,
        "LIST": ["q", "", "z"],
    },
    {
        "TAG": "",
        "EMPTY": "",
        "REG": "{{ x }}",
        "N": 0,
        "DEBUG": True,
        "OFF": True,
        "LIST": ["'", "\\", "x"],
    },
    {"TAG": "v", "EMPTY": "v1.2.3", "REG": "v", "N": 3, "DEBUG": False, "OFF": False, "LIST": []},
]


def test_templates_follow_their_variables() -> None:
    rng = random.Random(11)
    said = 0
    for code in [*written(), *(random_one(rng) for _ in range(_ROUNDS))]:
        for change in _OTHERS:
            other = {**VARS, **change}
            try:
                symbolic = value(code, VARS, mark=_SAID)
                wanted = plain(value(code, other))
            except Fault:
                continue
            said += _checked(code, symbolic, wanted, other)
    assert said > _ROUNDS // 2


def _checked(code: str, symbolic: Val, wanted: Any, variables: dict[str, Any]) -> int:
    """How many templates were rendered."""
    if isinstance(symbolic.data, list) and not symbolic.names:
        pairs = zip(symbolic.data, wanted, strict=True)
        return sum(_checked(code, each, one, variables) for each, one in pairs)
    if isinstance(symbolic.data, dict):
        return 0
    if not symbolic.names:
        assert plain(symbolic) == wanted, code
        return 0
    if symbolic.said is None:
        return 0
    text = template(symbolic.said).replace(MARK, "")
    renderer = Renderer(variables, {})
    found = renderer.render(text) if isinstance(wanted, str) else renderer.value(text)
    assert found == (float(wanted) if isinstance(wanted, Decimal) else wanted), (code, text)
    if symbolic.loose is not None:
        entries = [_rendered(each, variables) for each in symbolic.loose]
        assert [each for each in entries if each] == [
            shown(each) for each in wanted if each != ""
        ], (code, text)
    return 1


def _rendered(entry: Val, variables: dict[str, Any]) -> str:
    return Renderer(variables, {}).render(template(entry.parts).replace(MARK, ""))
