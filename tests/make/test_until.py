"""An image built as far as one of its steps: what there is then, and what is left alone."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.make.image import Built
from builder.project import Options, Project
from tests.make.conftest import Scene

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

APP = """\
from: rootfs:base.tar

stages:
  early: {from: rootfs:base.tar, steps: [{file: /early, content: e}]}
  late: {from: rootfs:base.tar, steps: [{run: "exit 9"}]}
vars: {greeting: hi}
config: {env: {A: "1"}, working_dir: /srv/app}
steps:
  - {copy: /early, dest: /, from: stage:early}
  - {name: greet, run: "echo {{ greeting }} > /greeting"}
  - {set: {env: {B: "2"}}}
  - {directory: /srv/app/inner}
  - {name: late, copy: /late, dest: /, from: stage:late}
  - {name: secret, run: "cat /run/secrets/token", mounts: [{secret: token}]}
"""


@contextlib.contextmanager
def in_project(scene: Scene) -> Iterator[Project]:
    before = os.getcwd()
    os.chdir(scene.root)
    try:
        yield Project(Options(str(scene.store)))
    finally:
        os.chdir(before)


def built(scene: Scene, step: str, image: str = "app") -> dict[str, Built]:
    with in_project(scene) as project:
        specs, _ = project.load([image])
        return project.build(specs, until=(image, step))


@pytest.fixture
def app(scene: Scene) -> Scene:
    scene.spec("app", APP)
    return scene


@pytest.mark.parametrize(
    ("step", "layers", "env"),
    [("0", 0, ["A=1"]), ("1", 1, ["A=1"]), ("greet", 2, ["A=1"]), ("3", 2, ["A=1", "B=2"])],
)
def test_what_is_there_is_the_base_and_the_steps_up_to_it(
    step: str, layers: int, env: list[str], app: Scene
) -> None:
    image = built(app, step)["app"].image
    assert len(image.layers) == 1 + layers
    assert image.config["config"]["Env"] == env


def test_what_only_later_steps_need_is_neither_built_nor_asked_for(app: Scene) -> None:
    assert set(built(app, "greet")) == {"app", "app:early"}
    assert set(built(app, "0")) == {"app"}


def test_the_image_is_called_nothing_and_its_last_build_stays(app: Scene) -> None:
    (app.root / "token").write_text("a secret of many bytes")
    (app.root / "specs/app.yaml").write_text(APP.replace("exit 9", "touch /late"))
    app.build("app", "--secret", f"token={app.root / 'token'}")
    before = app.run("images", "--json").stdout
    built(app, "greet")
    assert app.run("images", "--json").stdout == before
    plan = app.run("plan", "app", "--exit-code", "--secret", f"token={app.root / 'token'}")
    assert "never" not in plan.stdout


def test_each_is_the_beginning_of_the_next(scene: Scene) -> None:
    steps = [f"  - {{run: 'echo {n} > /f{n}'}}" for n in range(4)]
    scene.spec("app", "from: rootfs:base.tar\nsteps:\n" + "\n".join(steps))
    images = [built(scene, str(number))["app"].image for number in range(5)]
    for shorter, longer in itertools.pairwise(images):
        assert longer.layers[:-1] == shorter.layers
    whole = scene.build("app")["app"]
    assert [each["diff_id"] for each in whole["layers"]] == [
        each.diff_id for each in images[-1].layers
    ]


def test_a_spec_that_waits_for_its_base_ends_at_a_step_named_by_that(scene: Scene) -> None:
    scene.spec("under", "from: rootfs:base.tar\nconfig: {labels: {kind: web}}\n")
    scene.spec(
        "app",
        "from: image:under\nsteps:\n"
        "  - {name: 'make {{ base.labels.kind }}', run: 'touch /a'}\n"
        "  - {name: more, run: 'exit 9'}\n",
    )
    assert len(built(scene, "make web")["app"].image.layers) == 2
    assert len(built(scene, "1")["app"].image.layers) == 2


def test_a_stage_ends_at_a_step_too(app: Scene) -> None:
    with in_project(app) as project:
        specs, names = project.load(["app:late"])
        found = project.build(specs, until=(names[0], "0"))
    assert len(found["app:late"].image.layers) == 1


def test_a_step_that_is_not_there(app: Scene, tmp_path: Path) -> None:
    for wanted, hint in (("gret", "did you mean 'greet'?"), ("77", "0 is its base, its steps: ")):
        with pytest.raises(UsageError) as error:
            built(app, wanted)
        assert error.value.what == f"'app' has no step {wanted!r}"
        assert error.value.hint and error.value.hint.startswith(hint)
