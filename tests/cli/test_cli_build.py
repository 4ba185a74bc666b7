"""The command line end to end on file steps."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

PAGES = """
from: scratch
vars: {title: Hello}
steps:
  - name: pages
    copy: public/
    dest: /srv/
  - name: title
    file: /srv/title
    content: "{{ title }}\\n"
tags: ["registry.example/site:1"]
"""


@pytest.fixture
def site(project: Any) -> Any:
    project.spec("site", PAGES)
    project.file("public/index.html", "<h1>Hi</h1>")
    project.file("public/css/main.css", "body {}")
    return project


def test_a_second_build_reuses_every_layer(site: Any) -> None:
    first, second = site.build()["site"], site.build()["site"]
    assert [layer["status"] for layer in first["layers"]] == ["built", "built"]
    assert [layer["status"] for layer in second["layers"]] == ["hit", "hit"]
    assert first["digest"] == second["digest"]


def test_the_json_document_has_the_promised_form(site: Any) -> None:
    image = site.build()["site"]
    assert list(image) == ["name", "platform", "digest", "config", "seconds", "layers"]
    layer = image["layers"][0]
    assert layer["step"] == 1 and layer["name"] == "pages"
    assert layer["media_type"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert {"status", "diff_id", "digest", "size", "key", "why", "seconds"} < set(layer)


def test_one_changed_page_rebuilds_one_layer_and_says_which_file(site: Any) -> None:
    before = site.build()["site"]
    site.file("public/index.html", "<h1>Ho</h1>")
    (pages, title) = site.plan()["site"]
    assert pages[0] == "build" and pages[1].startswith("/srv/index.html: content ")
    assert title == ("hit", "unchanged")
    after = site.build()["site"]
    changed = [
        old["name"]
        for old, new in zip(before["layers"], after["layers"], strict=True)
        if old["diff_id"] != new["diff_id"]
    ]
    assert changed == ["pages"]


def test_why_still_answers_after_the_build(site: Any) -> None:
    site.build()
    site.file("public/index.html", "<h1>Ho</h1>")
    assert "1 pages: build: /srv/index.html: content" in site.run("why", "site", "pages").stdout
    site.build()
    site.build()
    assert "then built: /srv/index.html: content" in site.run("why", "site", "pages").stdout


def test_why_names_the_variable_that_changed(site: Any) -> None:
    site.build()
    said = site.run("why", "site", "title", "--set", "title=Bye").stdout
    assert "/srv/title: content" in said and "variable title: 'Hello' -> 'Bye'" in said


def test_plan_has_an_exit_code_when_asked(site: Any) -> None:
    site.run("plan", "--exit-code", status=3)
    site.build()
    site.run("plan", "--exit-code")


def test_an_image_stands_on_another_and_shares_its_layers(site: Any) -> None:
    site.spec("more", "from: image:site\nsteps:\n  - file: /more\n    content: x\n")
    built = site.build("more")
    base = [layer["diff_id"] for layer in built["site"]["layers"]]
    layers = built["more"]["layers"]
    assert [layer["diff_id"] for layer in layers[:2]] == base
    assert [(layer["step"], layer["status"]) for layer in layers] == [
        (None, "base"),
        (None, "base"),
        (1, "built"),
    ]


def test_a_new_base_leaves_file_layers_alone(site: Any) -> None:
    site.spec("more", "from: image:site\nsteps:\n  - file: /more\n    content: x\n")
    site.build()
    site.file("public/index.html", "changed")
    assert site.build()["more"]["layers"][-1]["status"] == "hit"


def test_removing_what_is_not_there_is_an_empty_layer_and_a_warning(project: Any) -> None:
    project.spec("a", "from: scratch\nsteps:\n  - remove: /nothing\n")
    made = project.run("build", "--json")
    (layer,) = json.loads(made.stdout)["images"][0]["layers"]
    assert layer["status"] == "empty" and "diff_id" not in layer
    assert "specs/a.yaml:3:13: '/nothing' is not in the image" in made.stderr
    (entry,) = json.loads(project.run("inspect", "a").stdout)["config"]["history"]
    assert entry["empty_layer"] is True


@pytest.mark.needs("skopeo", "umoci")
@pytest.mark.parametrize("codec", ["gzip", "zstd", "none", "gzip:9", "zstd:19"])
def test_other_tools_read_what_is_written(site: Any, codec: str) -> None:
    site.run("build", "--compression", codec, "--output", "oci:out:v1", "-o", "oci-archive:a.tar")
    for name in ("oci:out:v1", "oci-archive:a.tar"):
        subprocess.run(["skopeo", "inspect", name], cwd=site.root, check=True, capture_output=True)
    if not codec.startswith("zstd"):  # umoci of Debian 12 does not know zstd
        subprocess.run(
            ["umoci", "unpack", "--rootless", "--image", "out:v1", "bundle"],
            cwd=site.root, check=True, capture_output=True,
        )  # fmt: skip
        assert (site.root / "bundle/rootfs/srv/css/main.css").read_text() == "body {}"


def test_a_layer_converted_to_another_codec_is_as_if_built_so(site: Any) -> None:
    site.build()
    converted = site.build("--compression", "zstd")["site"]["digest"]
    site.store = site.store.with_name("other")
    assert site.build("--compression", "zstd")["site"]["digest"] == converted


def test_depfile_and_iidfile_serve_make(site: Any) -> None:
    (site.root / "out").mkdir()
    built = site.build("--iidfile", "out/site.stamp", "--depfile", "out/site.d")
    assert (site.root / "out/site.stamp").read_text() == built["site"]["digest"] + "\n"
    rule = (site.root / "out/site.d").read_text()
    assert rule.startswith("out/site.stamp: specs/site.yaml \\\n")
    assert "\npublic/css/main.css:\n" in rule and "  public/css \\\n" in rule


def test_metadata_file_holds_the_json_document(site: Any) -> None:
    made = site.run("build", "--json", "--metadata-file", "meta.json")
    assert json.loads((site.root / "meta.json").read_text()) == json.loads(made.stdout)


def test_source_date_epoch_sets_every_time(site: Any) -> None:
    epoch = {"SOURCE_DATE_EPOCH": "1000000000"}
    site.run("build", env=epoch)
    config = json.loads(site.run("inspect", "site", "--no-build", env=epoch).stdout)["config"]
    assert config["created"] == "2001-09-09T01:46:40Z"
    assert {entry["created"] for entry in config["history"]} == {"2001-09-09T01:46:40Z"}


def test_the_python_api_builds_what_the_command_line_builds(site: Any) -> None:
    from builder import build, load_spec, make_plan

    options = {
        "cache_dir": str(site.root / "api"),
        "specs": str(site.root / "specs"),
    }
    spec = load_spec(str(site.root / "specs/site.yaml"), environ={})
    assert spec.name == "site" and len(spec.steps) == 2
    assert [step.status for step in make_plan(**options)["site"].steps] == ["build", "build"]
    built = build(**options)["site"]
    assert built.manifest.digest == site.build()["site"]["digest"]
    assert make_plan(**options)["site"].changes == 0


def test_images_history_tag_and_rmi(site: Any) -> None:
    site.build()
    assert "site" in site.run("images").stdout
    history = site.run("history", "site").stdout
    assert "copy public/" in history and "file /srv/title" in history
    site.run("tag", "site", "other:1")
    listed = json.loads(site.run("images", "--json").stdout)["images"]
    assert {image["name"] for image in listed} == {"site", "other:1"}
    assert len({image["digest"] for image in listed}) == 1
    site.run("rmi", "other:1")
    assert "other:1" not in site.run("images").stdout
    assert "did you mean 'site'?" in site.run("history", "sitee", status=2).stderr


def test_cache_commands(site: Any) -> None:
    site.build()
    assert "blobs" in site.run("cache", "ls").stdout
    assert site.run("cache", "check").stdout == "all is well\n"
    (blob, *_) = (site.store / "blobs/sha256").iterdir()
    os.truncate(blob, 1)
    assert "problems" in site.run("cache", "check", status=1).stdout
    site.run("cache", "check", "--repair", status=1)  # the image lacks a blob until it is built
    site.build()
    assert site.run("cache", "check").stdout == "all is well\n"
    assert "freed" in site.run("cache", "gc", "--max-age", "30d").stdout


def test_help_is_quick_and_complete(project: Any) -> None:
    said = project.run("--help").stdout
    for command in ("plan", "build", "why", "push", "load", "lint", "cache", "doctor"):
        assert f"\n  {command} " in said
