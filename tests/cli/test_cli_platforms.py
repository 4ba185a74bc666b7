"""Images for several platforms: an index in the store, in layouts and archives."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.oci.image import Platform, host_platform

HOST = str(host_platform())
OTHERS = [
    each for each in ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x") if each != HOST
]
BOTH = sorted((HOST, OTHERS[0]))


def layout(project: Any, name: str, *platforms: str, tag: str = "latest") -> dict[str, Any]:
    """An `oci:` base of the project's folder, whose files say what they are for."""
    project.spec(
        f"make-{name}",
        f"from: scratch\nplatforms: [{', '.join(platforms)}]\n"
        "steps:\n  - {file: /base, content: '{{ target.platform }}'}\n",
    )
    project.run("build", f"make-{name}", "--output", f"oci:{name}:{tag}")
    (project.root / f"specs/make-{name}.yaml").unlink()
    return index_in(project.root / name)


def index_in(folder: Path) -> dict[str, Any]:
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    return blob(folder, entry["digest"])


def blob(folder: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "blobs" / digest.replace(":", "/")).read_bytes())
    return found


def platforms_of(index: dict[str, Any]) -> list[str]:
    return [
        str(
            Platform(
                each["platform"]["os"], *map(each["platform"].get, ("architecture", "variant"))
            )
        )
        for each in index["manifests"]
    ]


def document(project: Any, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.run("build", "--json", *arguments).stdout)
    return found


def text_of(folder: Path, entry: dict[str, Any], path: str) -> str:
    """A file of the last layer that has it."""
    manifest = blob(folder, entry["digest"])
    for layer in reversed(manifest["layers"]):
        tar = subprocess.run(
            ["tar", "-xzOf", str(folder / "blobs" / layer["digest"].replace(":", "/")), path],
            capture_output=True, text=True,
        )  # fmt: skip
        if tar.returncode == 0:
            return tar.stdout
    raise AssertionError(f"no {path}")


SITE = """\
from: oci:base
platforms: {platforms}
steps:
  - {{file: /made, content: "{{{{ target.arch }}}} on {{{{ host.arch }}}}"}}
config:
  labels: {{arch: "{{{{ target.arch }}}}"}}
"""


def test_a_spec_of_two_platforms_makes_one_index(project: Any) -> None:
    base = layout(project, "base", *BOTH, OTHERS[1])
    assert platforms_of(base) == sorted([*BOTH, OTHERS[1]])
    project.spec("site", SITE.format(platforms=[BOTH[1], BOTH[0]]))
    made = document(project, "site", "--output", "oci:out")
    (index,) = made["indexes"]
    assert [each["platform"] for each in made["images"]] == BOTH
    assert index["manifests"] == [
        {"platform": each["platform"], "digest": each["digest"]} for each in made["images"]
    ]
    out = project.root / "out"
    written = index_in(out)
    assert written["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert platforms_of(written) == BOTH
    for entry, platform in zip(written["manifests"], BOTH, strict=True):
        arch = platform.split("/")[1]
        assert text_of(out, entry, "base") == platform
        assert text_of(out, entry, "made") == f"{arch} on {HOST.split('/')[1]}"
        config = blob(out, blob(out, entry["digest"])["config"]["digest"])
        assert (config["architecture"], config["config"]["Labels"]) == (arch, {"arch": arch})
    # the same in any order, with nothing to do the second time
    plan = json.loads(project.run("plan", "--json", "site", "--exit-code").stdout)
    assert {each["image"]["status"] for each in plan["images"]} == {"hit"}
    assert document(project, "site")["indexes"][0]["digest"] == index["digest"]
    # and each platform alone is the manifest that the index holds
    for each in made["images"]:
        alone = document(project, "site", "--platform", each["platform"])
        assert [image["digest"] for image in alone["images"]] == [each["digest"]]
        assert "indexes" not in alone


def test_other_tools_read_the_index(project: Any) -> None:
    project.spec("site", SITE.format(platforms=BOTH).replace("oci:base", "scratch"))
    project.run("build", "site", "--output", "oci:out:1.0", "--output", "oci-archive:out.tar:1.0")
    out = project.root / "out"
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{out}:1.0"], capture_output=True, check=True
    ).stdout
    assert json.loads(raw) == index_in(out)
    for number, platform in enumerate(BOTH):
        _, arch = platform.split("/")
        said = subprocess.run(
            ["skopeo", "--override-arch", arch, "inspect", "--config", f"oci:{out}:1.0"],
            capture_output=True, check=True,
        )  # fmt: skip
        assert json.loads(said.stdout)["architecture"] == arch, number
    for kind, place in (("oci", out), ("oci-archive", project.root / "out.tar")):
        copied = project.root / f"copied-{kind}"
        subprocess.run(
            ["skopeo", "copy", "-q", "--all", f"{kind}:{place}:1.0", f"oci:{copied}:1.0"],
            check=True,
        )
        assert index_in(copied) == index_in(out)
    # an index may be a base again
    project.spec("on", "from: oci:out:1.0\nsteps:\n  - {file: /on, content: x}\n")
    assert document(project, "on", "--platform", ",".join(BOTH))["indexes"]


def test_the_command_line_says_which(project: Any) -> None:
    project.spec("one", "from: scratch\nsteps:\n  - {file: /a, content: a}\n")
    for arguments in (["--platform", ",".join(BOTH)], [a for p in BOTH for a in ("--platform", p)]):
        made = document(project, "one", *arguments)
        assert [each["platform"] for each in made["images"]] == BOTH
        assert len(made["indexes"]) == 1
    project.file("builder.yaml", f"platforms: [{', '.join(BOTH)}]\n")
    assert document(project, "one") == made
    project.spec("own", SITE.format(platforms=[OTHERS[1]]).replace("oci:base", "scratch"))
    assert [each["platform"] for each in document(project, "own")["images"]] == [OTHERS[1]]


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["--platform", "linux/amd64,linux/amd46"], "'amd46' is unknown", "did you mean 'amd64'"),
        (["--platform", "linus/amd64"], "'linus' is unknown", "did you mean 'linux'"),
        (["--platform", "arm64,linux/arm64/v8"], "linux/arm64 twice", ""),
        (["--platform", "linux/amd64,"], "'' is not a platform", ""),
        (["--platform", "arm64v8"], "is not a platform, expected os/arch", "write linux/arm64/v8"),
        (["--platform", "a/b/c/d"], "is not a platform, expected os/arch", ""),
        (["--platform", "linux/riscv64"], "--platform linux/riscv64: specs/site.yaml is for",
         "`platforms`"),
        (["--output", "docker-archive:x.tar"], "holds one platform", "--platform linux/"),
        (["--output", "dir:x"], "holds one platform", "oci:DIR"),
        (["--output", "tar:x"], "holds one platform", "oci:DIR"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_built(
    project: Any, arguments: list[str], said: str, hint: str
) -> None:
    project.spec("site", SITE.format(platforms=BOTH).replace("oci:base", "scratch"))
    error = project.run("build", "site", *arguments, status=2).stderr
    first, *rest = error.splitlines()
    assert said in first and hint in "".join(rest) and len(rest) <= 1, error
    assert not json.loads(project.run("images", "--json").stdout)["images"]


def test_a_base_without_the_platform_names_those_it_has(project: Any) -> None:
    layout(project, "base", *BOTH)
    project.spec("site", SITE.format(platforms=[HOST, "linux/riscv64"]))
    error = project.run("build", "site", status=1).stderr
    assert "specs/site.yaml:1:7" in error and "no image for linux/riscv64" in error
    assert all(each in error for each in BOTH)


def test_names_hold_an_index_or_manifests(project: Any) -> None:
    def images() -> dict[str, Any]:
        found = json.loads(project.run("images", "--json").stdout)["images"]
        return {(each["name"], each["platform"]): each for each in found}

    site = "from: scratch\nsteps:\n  - {file: /a, content: '{{ v }}'}\nvars: {v: one}\n"
    project.spec("site", site)
    project.run("build", "site")
    assert set(images()) == {("site", HOST)}
    both = ["--platform", ",".join(BOTH)]
    index = document(project, "site", *both)["indexes"][0]["digest"]
    assert {key: each["digest"] for key, each in images().items()} == {("site", None): index}
    listed = images()["site", None]["manifests"]
    assert [each["platform"] for each in listed] == BOTH
    # one of its platforms alone, as it is: nothing changes; another image: the others stay
    project.run("build", "site")
    assert set(images()) == {("site", None)}
    changed = document(project, "site", "--set", "v=two")["images"][0]["digest"]
    now = {platform: each["digest"] for (_, platform), each in images().items()}
    assert now == {
        each["platform"]: changed if each["platform"] == HOST else each["digest"] for each in listed
    }
    document(project, "site", *both)
    project.run("tag", "site", "team/site:1", *both)
    assert {name for name, _ in images()} == {"site", "team/site:1"}
    # all that an index reaches is held, and let go of with it
    project.run("cache", "gc", "--max-age", "0s")
    project.run("cache", "check")
    shown = json.loads(project.run("inspect", "team/site:1").stdout)
    assert (shown["digest"], len(shown["manifests"])) == (index, 2)
    one = json.loads(project.run("inspect", "team/site:1", "--platform", BOTH[1]).stdout)
    assert one["platform"] == BOTH[1]
    assert f"--platform {BOTH[0]}" in project.run("inspect", "team/site:1", *both, status=2).stderr
    assert "/a" in project.run("history", "team/site:1").stdout
    for name in ("site", "team/site:1"):
        project.run("rmi", name)
    assert images() == {}
    project.run("cache", "gc")
    assert not os.listdir(project.store / "blobs/sha256")
    project.run("cache", "check")


def test_an_image_stands_on_and_copies_from_its_own_platform(project: Any) -> None:
    layout(project, "base", *BOTH)
    project.spec(
        "below", "from: oci:base\nsteps:\n  - {file: /below, content: '{{ target.platform }}'}\n"
    )
    project.spec(
        "site",
        f"""\
from: image:below
platforms: [{", ".join(BOTH)}]
stages:
  parts: {{from: "stage:more", steps: [{{file: /part, content: "{{{{ target.platform }}}}"}}]}}
  more: {{from: oci:base, steps: [{{file: /more, content: "{{{{ target.platform }}}}"}}]}}
steps:
  - {{copy: [/part, /more, /base], from: stage:parts, dest: /s/}}
  - {{copy: [/below], from: image:below, dest: /i/}}
  - {{copy: [/base], from: oci:base, dest: /o/}}
""",
    )
    project.run("build", "site", "--output", "oci:out")
    out = project.root / "out"
    for entry, platform in zip(index_in(out)["manifests"], BOTH, strict=True):
        for path in ("base", "below", "s/part", "s/more", "s/base", "i/below", "o/base"):
            assert text_of(out, entry, path) == platform, (path, platform)


STAGES = """\
from: scratch
platforms: [{platforms}]
vars: {{v: one}}
stages:
  tools:
    from: {base}
    platform: host
    steps: [{{file: /tool, content: "tool {{{{ v }}}}"}}]
  on: {{from: "stage:tools", steps: [{{file: /on, content: on}}]}}
  build:
    from: stage:on
    steps: [{{file: /out, content: "for {says}"}}]
steps:
  - {{copy: [/out, /tool, /on], from: stage:build, dest: /}}
"""


def test_a_stage_that_runs_here_and_says_the_same_is_built_once(project: Any) -> None:
    layout(project, "base", *BOTH)
    both = ", ".join(BOTH)
    project.spec("site", STAGES.format(platforms=both, base="oci:base", says="all"))
    made = document(project, "site", "--output", "oci:out")
    names = [(each["name"], each["platform"]) for each in made["images"]]
    stages = [(f"site:{stage}", HOST) for stage in ("tools", "on", "build")]
    assert sorted(names) == sorted([*stages, *(("site", each) for each in BOTH)])
    # what says the target is another for each; what it stands on is not
    project.spec(
        "site", STAGES.format(platforms=both, base="oci:base", says="{{ target.platform }}")
    )
    made = document(project, "site", "--output", "oci:out2")
    names = [(each["name"], each["platform"]) for each in made["images"]]
    assert names.count(("site:build", HOST)) == 2 and names.count(("site:tools", HOST)) == 1
    out = project.root / "out2"
    for entry, platform in zip(index_in(out)["manifests"], BOTH, strict=True):
        assert text_of(out, entry, "out") == f"for {platform}"
        assert text_of(out, entry, "tool") == "tool one"
    # nothing to do is nothing to do, and why tells each apart
    plan = project.run("plan", "site", "--exit-code").stdout
    assert "build (" in plan or "site:build (" in plan
    before = snapshot(project.store / "builds")
    document(project, "site")
    assert snapshot(project.store / "builds") == before
    # a stage for another platform is built for that one
    alone = document(project, "site", "--platform", OTHERS[0])
    assert {(each["name"], each["platform"]) for each in alone["images"]} == {
        *stages, ("site", OTHERS[0]),
    }  # fmt: skip


def snapshot(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_host_stage_stands_on_another_spec_for_this_machine(project: Any) -> None:
    project.spec("tools", "from: scratch\nsteps: [{file: /t, content: '{{ target.platform }}'}]\n")
    project.spec(
        "site",
        f"from: scratch\nplatforms: [{OTHERS[0]}]\n"
        "stages:\n  build: {from: 'image:tools', platform: host}\n"
        "steps:\n  - {copy: /t, from: stage:build, dest: /}\n"
        "  - {copy: /t, from: 'image:tools', dest: /own}\n",
    )
    project.run("build", "site", "--output", "oci:out")
    (entry,) = json.loads((project.root / "out/index.json").read_text())["manifests"]
    assert text_of(project.root / "out", entry, "t") == HOST
    assert text_of(project.root / "out", entry, "own") == OTHERS[0]


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("from: image:only\nplatforms: [{both}]\n", "specs/site.yaml:1:7: image:only is built for"),
        (
            "from: stage:b\nplatforms: [{other}]\n"
            "stages: {{b: {{from: scratch, platform: host}}}}\n",
            "specs/site.yaml:1:7: stage:b is for",
        ),
        (
            "from: scratch\nplatforms: [{both}]\n"
            "steps:\n  - {{copy: /a, from: image:only, dest: /}}\n",
            "specs/site.yaml:4:22: image:only is built for",
        ),
    ],
)
def test_what_is_for_another_platform_is_no_part(project: Any, site: str, said: str) -> None:
    project.spec("only", f"from: scratch\nplatforms: [{HOST}]\nsteps: [{{file: /a, content: a}}]\n")
    project.spec("site", site.format(both=", ".join(BOTH), other=OTHERS[0]))
    for command in ("plan", "build"):
        assert said in project.run(command, "site", status=2).stderr


def test_templates_may_leave_things_out_for_a_platform(project: Any) -> None:
    project.spec(
        "site",
        """\
from: "stage:{{ 'a' if target.arch == 'arm64' else 'b' }}"
platforms: [linux/amd64, linux/arm64]
stages:
  a: {from: scratch, steps: [{file: /a, content: a}]}
  b: {from: scratch, steps: [{file: /b, content: b}]}
steps:
  - {when: 'target.arch == "arm64"', file: /only, content: arm}
""",
    )
    project.spec("some", "from: scratch\nplatforms: [linux/amd64, linux/arm64]\n"
                 "when: target.arch == 'arm64'\nsteps: [{file: /a, content: a}]\n")  # fmt: skip
    made = document(project)
    names = sorted((each["name"], each["platform"]) for each in made["images"])
    assert names == [
        ("site", "linux/amd64"), ("site", "linux/arm64"), ("site:a", "linux/arm64"),
        ("site:b", "linux/amd64"), ("some", "linux/arm64"),
    ]  # fmt: skip
    assert [each["name"] for each in made["indexes"]] == ["site"]


def test_a_failure_on_one_platform_makes_no_index(project: Any) -> None:
    project.spec(
        "site",
        "from: scratch\nplatforms: [linux/amd64, linux/arm64]\n"
        "steps:\n  - {copy: 'for-{{ target.arch }}', dest: /}\n",
    )
    project.file("for-amd64", "x")
    project.spec("other", "from: scratch\nplatforms: [linux/amd64, linux/arm64]\n")
    error = project.run("build", "--keep-going", status=2).stderr
    assert "for-arm64" in error
    listed = json.loads(project.run("images", "--json").stdout)["images"]
    assert [(each["name"], each["platform"]) for each in listed] == [("other", None)]


def test_digests_do_not_depend_on_order_or_company(project: Any) -> None:
    """Any set of platforms in any order: each manifest is the one it is alone, and the index the
    same bytes."""
    platforms = ["linux/386", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"]
    project.spec("site", "from: scratch\nsteps: [{file: /a, content: '{{ target.platform }}'}]\n")
    alone = {
        each: document(project, "site", "--platform", each)["images"][0]["digest"]
        for each in platforms
    }
    for count in (2, 3):
        for chosen in itertools.islice(itertools.combinations(platforms, count), 3):
            digests = set()
            for order in (chosen, chosen[::-1]):
                made = document(project, "site", "--platform", ",".join(order))
                assert {i["platform"]: i["digest"] for i in made["images"]} == {
                    each: alone[each] for each in chosen
                }
                digests.add(made["indexes"][0]["digest"])
            assert len(digests) == 1


def test_lint_reads_a_spec_for_each_of_its_platforms(project: Any) -> None:
    project.spec(
        "site",
        f"""\
from: scratch
platforms: [{", ".join(BOTH)}]
steps:
  - {{copy: "none-{{{{ target.arch }}}}", dest: /}}
  - {{copy: none, dest: /}}
""",
    )
    error = project.run("lint", status=2).stderr
    for platform in BOTH:
        assert error.count(f"none-{platform.split('/')[1]}'") == 1, error
    assert error.count("specs/site.yaml:5:") == 1
