"""Bases whose history does not fit their layers: what is built on them is taken by an engine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import build
from builder.events import Event, Warned
from builder.plan.config import fit_history
from tests.transport.test_archive import archive, layer_tar

if TYPE_CHECKING:
    from tests.dockerd import Engine

FULL: dict[str, Any] = {"created_by": "a"}
EMPTY: dict[str, Any] = {"created_by": "e", "empty_layer": True}
UNKNOWN = {"created_by": "unknown"}
CASES: dict[str, tuple[int, list[dict[str, Any]] | None, list[dict[str, Any]]]] = {
    "none": (2, None, [UNKNOWN, UNKNOWN]),
    "fits": (2, [FULL, EMPTY, FULL], [FULL, EMPTY, FULL]),
    "too few": (2, [EMPTY, FULL, EMPTY], [EMPTY, FULL, EMPTY, UNKNOWN]),
    "only empty ones": (1, [EMPTY], [EMPTY, UNKNOWN]),
    "too many": (1, [FULL, EMPTY, FULL, EMPTY, FULL], [FULL, EMPTY, EMPTY]),
    "of no layer": (0, [FULL, EMPTY], [EMPTY]),
    "false says nothing": (1, [{"empty_layer": False}], [{"empty_layer": False}]),
}


@pytest.mark.parametrize("case", CASES)
def test_history_is_filled_up_or_cut(case: str) -> None:
    layers, history, wanted = CASES[case]
    document, told = fit_history({"history": history} if history else {}, layers)
    assert list(document.get("history", ())) == wanted
    assert bool(told) == (wanted != history and history is not None)


def test_an_engine_takes_what_is_built_on_them(engine: Engine, tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    specs.mkdir()
    for number, (layers, history, _) in enumerate(CASES.values()):
        tars = [layer_tar(str(each)) for each in range(layers)]
        diff_ids = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]
        config = {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            **({"history": history} if history else {}),
        }
        names = [f"{each}.tar" for each in range(layers)]
        listed = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": names}]
        members = [("c.json", json.dumps(config).encode())]
        members += [("manifest.json", json.dumps(listed).encode())]
        members += list(zip(names, tars, strict=True))
        archive(tmp_path / f"base{number}.tar", [*members])
        text = f"from: docker-archive:base{number}.tar\nsteps: [{{file: /f, content: x}}]\n"
        (specs / f"h{number}.yaml").write_text(text)
    events: list[Event] = []
    options = {"cache_dir": str(tmp_path / "store"), "specs": str(specs)}
    built = build([], emit=events.append, **options)
    warned = [event for event in events if isinstance(event, Warned)]
    assert len(warned) == 4
    told_of = "base2.tar: its history tells of 1 layers and it has 2"
    assert sum(told_of in event.text for event in warned) == 1  # bases come side by side
    from builder.store.store import Store
    from builder.transport.outputs import parse_output

    for name, each in built.items():
        out = tmp_path / f"{name}.tar"
        parse_output(f"docker-archive:{out}:{name}:1")(Store(options["cache_dir"]), "x").put(
            [each.image]
        )
        assert f"{name}:1".encode() in engine.docker("load", "-i", str(out))
        told = engine.docker("history", "-q", f"{name}:1").splitlines()
        assert len(told) == len(each.image.config["history"])
