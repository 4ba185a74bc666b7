"""Random compose projects say what `docker-compose config` says of them: variables, .env, lists and
mappings, services that extend others, also of other files, and further files."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.bake import compose
from builder.bake.files import load
from builder.bake.interpolate import env_file
from builder.bake.values import plain

_ROUNDS = int(os.environ.get("COMPOSE_ROUNDS", "8"))
_TEXTS = (
    *("a", "${A}", "$A-x", "${A:-d}", "${B:-d e}", "${B-d}", "${E:-x}", "${E-x}", "$$", "$${A}"),
    *("x${A}${B}y", "${C:-/p:1}", "${N}", "${Q}"),
)
_VALUES = ("v1", "'q r'", '"dq # x"', "plain # note", "a#b", "1.10", "x=y", "${A}w")
_COMPARED = ("target", "dockerfile", "args", "labels")


def _pairs(rng: random.Random, names: tuple[str, ...]) -> Any:
    made = {name: rng.choice(_TEXTS) for name in rng.sample(names, rng.randint(1, len(names)))}
    return made if rng.random() < 0.5 else [f"{name}={text}" for name, text in made.items()]


def _build(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"context": rng.choice([".", "./ctx", "sub/../ctx"])}
    if rng.random() < 0.5:
        made["dockerfile"] = rng.choice(["Dockerfile", "D." + rng.choice(_TEXTS)])
    if rng.random() < 0.6:
        made["target"] = rng.choice(_TEXTS)
    if rng.random() < 0.7:
        made["args"] = _pairs(rng, ("P", "Q", "R"))
    if rng.random() < 0.5:
        made["labels"] = _pairs(rng, ("l.a", "l.b"))
    return made


def _service(rng: random.Random, others: list[Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if rng.random() < 0.7:
        made["image"] = "img:" + rng.choice(_TEXTS)
    if rng.random() < 0.8:
        made["build"] = _build(rng) if rng.random() < 0.8 else rng.choice(["./ctx", "."])
    if others and rng.random() < 0.5:
        made["extends"] = rng.choice(others)
    return made or {"image": "i"}


def _project(rng: random.Random, root: Path) -> list[str]:
    """Its files."""
    (root / "more" / "ctx").mkdir(parents=True)
    (root / "ctx").mkdir()
    shared = {"services": {"o": _service(rng, [])}}
    (root / "more" / "o.yaml").write_text(yaml.safe_dump(shared))
    services = {}
    for number in range(3):
        others: list[Any] = [{"service": "o", "file": "more/o.yaml"}]
        others += [f"s{each}" for each in range(number)]
        services[f"s{number}"] = _service(rng, others)
    (root / "compose.yaml").write_text(yaml.safe_dump({"services": services}, sort_keys=False))
    names = rng.sample(["A", "B", "E", "N"], rng.randint(0, 4))
    lines = [f"{name}={'' if name == 'E' else rng.choice(_VALUES)}\n" for name in names]
    (root / ".env").write_text("".join(lines))
    over = {f"s{each}": _service(rng, []) for each in range(3) if rng.random() < 0.4}
    if not over:
        return ["compose.yaml"]
    (root / "over.yaml").write_text(yaml.safe_dump({"services": over}))
    return ["compose.yaml", "over.yaml"]


def _same(root: Path, service: dict[str, Any]) -> dict[str, Any]:
    build = {key: value for key, value in service["build"].items() if key in _COMPARED}
    build["context"] = os.path.realpath(root / service["build"].get("context", "."))
    for key in ("args", "labels"):
        if key in build:
            texts = {name: "" if each is None else str(each) for name, each in build[key].items()}
            build[key] = texts
    return {"image": service.get("image"), "build": build}


def _ours(root: Path, files: list[str]) -> dict[str, Any]:
    sources = [load(str(root / name)) for name in files]
    bake = compose.read(sources, str(root), env_file((root / ".env").read_text()), load)
    made = {}
    for name, target in bake.targets.items():
        said = {key: plain(each.value) for key, each in target.said.items()}
        made[name] = _same(root, {"image": said.get("tags", [None])[0], "build": said})
    return made


def _unescaped(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _unescaped(value) for key, value in found.items()}
    return found.replace("$$", "$") if isinstance(found, str) else found


@pytest.mark.needs("docker-compose")
@pytest.mark.parametrize("seed", range(_ROUNDS))
def test_it_says_what_compose_says(tmp_path: Path, seed: int) -> None:
    files = _project(random.Random(seed), tmp_path)
    options = [option for name in files for option in ("-f", name)]
    done = subprocess.run(
        ["docker-compose", *options, "config"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    services = _unescaped(yaml.safe_load(done.stdout))["services"]
    wanted = {name: _same(tmp_path, each) for name, each in services.items() if "build" in each}
    assert _ours(tmp_path, files) == wanted
