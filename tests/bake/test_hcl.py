"""HCL expressions give what HashiCorp's own implementation gives.

`hcl.json` beside this holds what that made of each; HCL_ORACLE=PROGRAM (`oracle.go`) asks it again,
for HCL_ROUNDS random expressions.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

from builder.bake.values import plain
from builder.spec.source import Fault
from tests.bake.expressions import VARS, random_one, written
from tests.bake.reading import value

_RECORD = Path(__file__).with_name("hcl.json")
_ORACLE = os.environ.get("HCL_ORACLE")
_ROUNDS = int(os.environ.get("HCL_ROUNDS", "300"))


def _ours(code: str) -> Any:
    try:
        return {"value": _same(plain(value(code, VARS)))}
    except Fault:
        return "error"


def _same(found: Any) -> Any:
    """A value with its numbers in one type."""
    if isinstance(found, int | float | Decimal) and not isinstance(found, bool):
        return round(float(found), 10)
    if isinstance(found, list):
        return [_same(each) for each in found]
    return {key: _same(each) for key, each in found.items()} if isinstance(found, dict) else found


def _asked(codes: list[str]) -> list[Any]:
    assert _ORACLE
    lines = "\n".join(json.dumps({"Code": code, "Vars": VARS}) for code in codes)
    done = subprocess.run([_ORACLE], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return ["error" if "error" in each else {"value": each["value"]} for each in found]


def test_expressions_give_what_hcl_gives() -> None:
    record: dict[str, Any] = json.loads(_RECORD.read_text())
    differ = {
        code: (wanted, ours)
        for code, wanted in record.items()
        if (ours := _ours(code))
        != ("error" if wanted == "error" else {"value": _same(wanted["value"])})
    }
    assert not differ
    assert set(written()) <= set(record)
    assert len(record) >= 500


if _ORACLE:  # else it is no test

    def test_random_expressions_give_what_hcl_gives() -> None:
        rng = random.Random(int(os.environ.get("HCL_SEED", "1")))
        codes = [*written(), *(random_one(rng) for _ in range(_ROUNDS))]
        answers = _asked(codes)
        if os.environ.get("HCL_RECORD"):
            pairs = dict(zip(codes, answers, strict=True))
            _RECORD.write_text(
                json.dumps(pairs, indent=0, ensure_ascii=False, sort_keys=True) + "\n"
            )
        for code, wanted in zip(codes, answers, strict=True):
            expected = "error" if wanted == "error" else {"value": _same(wanted["value"])}
            assert _ours(code) == expected, code
