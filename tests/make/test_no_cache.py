"""`--no-cache` makes the steps of the images that are asked for and of their stages, once; what
they stand on stays, as a base does for `docker build --no-cache`."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.needs("busybox")

RANDOM = "run: cat /proc/sys/kernel/random/uuid > "
BASE = f"from: rootfs:base.tar\nsteps:\n- {RANDOM}/base\n"
SITE = f"""
from: image:base
stages:
  compile:
    from: rootfs:base.tar
    steps:
    - {RANDOM}/compiled
  unused:
    from: rootfs:base.tar
    steps:
    - {RANDOM}/unused
steps:
- {{file: /motd, content: hello}}
- {{copy: compiled, from: stage:compile, dest: /}}
- {RANDOM}/site
"""
DOCKERFILE = """
FROM scratch AS compile
COPY base.tar /a
FROM scratch
COPY --from=compile /a /b
"""


@pytest.fixture
def site(scene: Any) -> Any:
    scene.spec("base", BASE)
    scene.spec("site", SITE)
    scene.spec("other", SITE.replace("/site", "/other"))
    return scene


def test_what_is_asked_for_is_made_again_and_what_it_stands_on_is_not(site: Any) -> None:
    first = site.build()
    again = site.build("site", "--no-cache")
    assert set(again) == {"base", "site", "site:compile"}
    assert again["base"]["digest"] == first["base"]["digest"]
    own = [each for each in again["site"]["layers"] if each["step"] is not None]
    assert [each["status"] for each in own] == ["built"] * 3
    assert [each["why"] for each in own[:1]] == ["--no-cache"]
    # the same for files, another for what a command made, also in the stage
    before = {each["step"]: each["diff_id"] for each in first["site"]["layers"]}
    assert [each["diff_id"] == before[each["step"]] for each in own] == [True, False, False]
    assert again["site:compile"]["layers"][-1]["status"] == "built"
    # the next build takes what was made last
    assert site.build("site")["site"]["digest"] == again["site"]["digest"]
    assert site.build("base", "site", "--no-cache")["base"]["digest"] != first["base"]["digest"]


def test_a_step_that_two_images_have_is_made_once_in_a_run(site: Any) -> None:
    site.build()
    again = site.build("site", "other", "--no-cache")
    compiled = [again[name]["layers"][-1]["diff_id"] for name in ("site:compile", "other:compile")]
    assert compiled[0] == compiled[1]


def test_the_plan_tells_it(site: Any) -> None:
    site.build()
    site.run("plan", "site", "--exit-code")
    said = site.run("plan", "site", "--no-cache", "--json", "--exit-code", status=3).stdout
    steps = {image["name"]: image["steps"] for image in json.loads(said)["images"]}
    assert [each["status"] for each in steps["base"]] == ["hit"]
    assert [(each["status"], each["why"]) for each in steps["site:compile"]] == [
        ("build", "--no-cache")
    ]
    assert (steps["site"][0]["status"], steps["site"][0]["why"]) == ("build", "--no-cache")


def test_the_stages_of_a_dockerfile_too(site: Any) -> None:
    (site.root / "Dockerfile").write_text(DOCKERFILE)
    site.build("-f", "Dockerfile", ".")
    again = site.build("--no-cache", ".")
    statuses = [each["status"] for image in again.values() for each in image["layers"]]
    assert statuses == ["built", "built"], again
