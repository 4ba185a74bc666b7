"""`pip` in a real Debian, from an index of this test."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors
from tests.cli.conftest import Project
from tests.packages.conftest import AGAIN, LATER, Index, elsewhere, files_of

pytestmark = [pytest.mark.needs("mmdebstrap"), pytest.mark.root]
HASHED = (1, 3)  # flags of .pyc files that hold a hash of their source, PEP 552


def install(project: Project, index: Index, packages: Any, *more: Any, **fields: Any) -> None:
    env = {"PIP_INDEX_URL": index.url, **fields.pop("env", {})}
    steps = [{"pip": packages, "env": env, **fields}, *more]
    project.spec("x", json.dumps({"from": "oci:debian", "steps": steps}))


@pytest.mark.parametrize("where", [{"venv": "/opt/venv"}, {"system": True}])
def test_the_same_packages_are_the_same_bytes(
    on_debian: Project, index: Index, where: dict[str, Any]
) -> None:
    """On another day; and the image's Python takes the .pyc files as they are."""
    index.add("one", requires="two>=1")
    index.add("two", code="x = {'a', 'b'}\n")
    bin_ = "/opt/venv/bin" if "venv" in where else "/usr/local/bin"
    python = f"{bin_}/python" if "venv" in where else "python3"
    check = {"run": f"{bin_}/one; {python} -v -c 'import two' 2>&1 | grep -E 'matches.*two'"}
    found = []
    for env in ({}, LATER):
        install(on_debian, index, "one", check, env=env, **where)
        layers = on_debian.build()["x"]["layers"]
        found.append([each["digest"] for each in layers if each["name"].startswith("pip ")])
    assert found[0] == found[1]
    files = files_of(on_debian.store, found[1][0])
    compiled = {path: data for path, data in files.items() if path.endswith(".pyc")}
    assert any("two.cpython" in path for path in compiled)
    assert {data[4] for data in compiled.values()} <= set(HASHED)
    assert not [path for path in files if re.search(r"tmp/.|\.cache|^run/", path)]
    assert index.url.encode() not in b"".join(data for data in files.values())


def test_files_of_requirements(on_debian: Project, index: Index) -> None:
    """They are in the key by their content, and not in the image."""
    for version in ("1.0", "2.0"):
        index.add("one", version)
    index.add("two")
    on_debian.write(
        reqs__base_dot_txt="two\n", reqs__all_dot_txt="-r base.txt\none\n", limits="one<2\n"
    )
    files = {"requirements": ["reqs/all.txt", "reqs/base.txt"]}

    def build() -> tuple[str, dict[str, bytes]]:
        install(on_debian, index, files, system=True, constraints="limits")
        made = on_debian.build()["x"]["layers"][-1]
        return made["status"], files_of(on_debian.store, made["digest"])

    site = "usr/local/lib/python3.11/dist-packages"
    status, found = build()
    assert status == "built" and f"{site}/one-1.0.dist-info/METADATA" in found
    assert f"{site}/two.py" in found
    assert not [path for path in found if path.startswith(("run", "reqs"))]
    os.utime(on_debian.root / "limits", (0, 0))
    assert build()[0] == "hit"
    on_debian.write(limits="one<3\n")
    status, found = build()
    assert status == "built" and f"{site}/one-2.0.dist-info/METADATA" in found
    files["requirements"] = ["reqs/all.txt"]
    install(on_debian, index, files, system=True)
    said = on_debian.run("build", "x", status=1).stderr
    assert "a file of requirements names 'reqs/base.txt', which the step does not have" in said


def test_downloads_are_kept_and_change_nothing(on_debian: Project, index: Index) -> None:
    for name in ("one", "two"):
        index.add(name)
    install(on_debian, index, "one", system=True)
    on_debian.build()
    install(on_debian, index, ["one", "two"], system=True)
    with_cache = on_debian.build()["x"]["layers"][-1]["digest"]
    other = elsewhere(on_debian)
    install(other, index, ["one", "two"], system=True, env=AGAIN)
    assert other.build()["x"]["layers"][-1]["digest"] == with_cache


def test_the_config_says_which_python_and_index(on_debian: Project, index: Index) -> None:
    index.add("one")
    steps = [
        {"run": "python3 -m venv /made"},
        {"set": {"path": "/made/bin", "env": {"PIP_INDEX_URL": index.url}, "user": "nobody"}},
        {"pip": "one"},
    ]
    on_debian.spec("x", json.dumps({"from": "oci:debian", "steps": steps}))
    built = on_debian.build()["x"]
    (pip,) = (each for each in built["layers"] if each["name"] == "pip install one")
    assert "made/lib/python3.11/site-packages/one.py" in files_of(on_debian.store, pip["digest"])
    steps[1]["set"]["env"]["PORT"] = "80"  # type: ignore[index]
    on_debian.spec("x", json.dumps({"from": "oci:debian", "steps": steps}))
    layers = on_debian.build()["x"]["layers"]
    assert [each["status"] for each in layers if each["name"].startswith("pip")] == ["hit"]


def test_what_cannot_be_installed_is_said(on_debian: Project, index: Index) -> None:
    for version in ("1.0", "1.1"):
        index.add("one", version)
    for packages, fields, place, said, hint in (
        (
            "[one]",
            "",
            "3:10",
            "the image's Python belongs to its distribution",
            "write venv: /opt/",
        ),
        ("[one, nowhere]", "system: true", "3:16", "no package 'nowhere'", "is its name right"),
        ("['one==9.*']", "system: true", "3:11", "no version of 'one' fits", "there is 1.1, 1.0"),
        ("[one]", "python: python9", "3:10", "the image has no python9", "a step before installs"),
    ):
        index_url = f"env: {{PIP_INDEX_URL: '{index.url}'}}"
        text = f"from: oci:debian\nsteps:\n  - pip: {packages}\n    {index_url}\n    {fields}\n"
        on_debian.spec("x", text)
        error = on_debian.run("build", "x", status=1).stderr.partition("\nerror: ")[2]
        assert re.match(rf"specs/x\.yaml:{place}: step .* failed: {re.escape(said)}", error), error
        assert f"\nhint: {hint}" in error and len(error.splitlines()) == 3
    on_debian.spec("x", "from: scratch\nsteps: [{pip: one}]\n")
    said = on_debian.run("build", "x", status=2).stderr
    assert "pip needs python3, which the image does not have here" in said


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{pip: []}", "the list is empty, expected a list of packages"),
        ("{pip: requirements.txt}", "write pip: {requirements: requirements.txt}"),
        ("{pip: -r requirements.txt}", "write pip: {requirements: requirements.txt}"),
        ("{pip: pip install -r requirements.txt}", "write pip: {requirements: requirements.txt}"),
        ("{pip: pip install --no-cache-dir flask}", "write flask"),
        ("{pip: install flask requests}", "write [flask, requests]"),
        ("{pip: --upgrade flask}", "None"),
        ("{pip: .}", "`bind` mount"),
        ("{pip: [--pre]}", "'--pre' is not a package"),
        ("{pip: 'flask requests'}", "write [flask, requests]"),
        ("{pip: [flask = 2]}", "'flask = 2' is not a package"),
        ("{pip: {requirements: ../x.txt}}", "'../x.txt'"),
        ("{pip: {requirement: x.txt}}", "did you mean 'requirements'?"),
        ("{pip: flask, venv: v}", "'v' is relative"),
        ("{pip: flask, venv: /v, system: true}", "'system' and 'venv'"),
        ('{pip: "flask\\nrequests"}', "is not a package"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_read(tmp_path: Path, step: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"from: scratch\nsteps:\n  - {step}\n")
    with pytest.raises(SpecErrors) as caught:
        load_spec(str(path), environ={})
    told = [f"{each.message} {each.hint}" for each in caught.value.errors]
    assert any(said in each for each in told), told


@pytest.mark.parametrize(
    "package",
    [
        *(
            "flask",
            "Flask",
            "a",
            "flask==2.*",
            "flask >= 2, < 3",
            "uvicorn[standard]~=0.30",
            "a.b_c-d",
        ),
        *("tomli; python_version < '3.11'", "a[x,y]>=1,!=1.5 ; extra == 'z'", "a===1.0+local"),
        "a @ https://h/a-1-py3-none-any.whl",
    ],
)
def test_a_package_as_pip_names_it(tmp_path: Path, package: str) -> None:
    from packaging.requirements import Requirement

    Requirement(package)
    path = tmp_path / "x.yaml"
    path.write_text(json.dumps({"from": "scratch", "steps": [{"pip": [package]}]}))
    load_spec(str(path), environ={})
