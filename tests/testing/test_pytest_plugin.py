"""The pytest plugin: tests of specs as items, fixtures of images, and nothing where none is asked
for."""

from __future__ import annotations

import os

import pytest

from tests.cli.conftest import Project

SPEC = """\
from: scratch
steps:
  - {file: /etc/a, content: "hello\\n", mode: '0600', owner: '7:8'}
  - {symlink: /etc/link, to: a}
tests:
  - {file: /etc/a, contains: hello}
  - {file: /etc/b, name: is not there}
"""
RIGHT = SPEC.replace("/etc/b", "/etc/link")


@pytest.fixture
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in the folder of an inner pytest."""
    monkeypatch.setenv("BUILDER_CACHE_DIR", str(pytester.path / "store"))
    project = Project(pytester.path)
    (pytester.path / "specs").mkdir()
    return project


def outcome(pytester: pytest.Pytester, *arguments: str) -> tuple[dict[str, int], str]:
    done = pytester.runpytest_subprocess("-p", "no:xdist", *arguments)
    return done.parseoutcomes(), done.stdout.str()


def test_every_test_of_a_spec_is_an_item(pytester: pytest.Pytester, here: Project) -> None:
    here.spec("one", SPEC)
    here.spec("two", "from: scratch\n")
    here.file("specs/parts/part.yaml", "tests: []\n")
    found, text = outcome(pytester, "--builder-specs", "specs", "-v")
    assert found == {"passed": 1, "failed": 1}, text
    assert "specs/one.yaml::one: file /etc/a PASSED" in text
    assert "specs/one.yaml:7:5: it is not there" in text and "Traceback" not in text


def test_specs_are_collected_beside_what_is_named(pytester: pytest.Pytester, here: Project) -> None:
    here.spec("one", RIGHT)
    here.file("tests/test_it.py", "def test_it(): pass\n")
    found, text = outcome(pytester, "--builder-specs", "specs", "tests")
    assert found == {"passed": 3}, text


def test_fixtures_show_the_image_and_its_files(pytester: pytest.Pytester, here: Project) -> None:
    here.spec("one", RIGHT)
    here.file(
        "test_it.py",
        """
import pytest

def test_files(rootfs, image):
    assert image.name == "one" and image.digest.startswith("sha256:")
    assert image.config["rootfs"]["type"] == "layers"
    assert rootfs.text("/etc/link") == "hello\\n" and rootfs.read("etc/a") == b"hello\\n"
    assert rootfs.exists("/etc/a") and not rootfs.exists("/etc/b")
    found = rootfs.stat("/etc/link")
    assert (found.kind, found.mode, found.uid, found.gid, found.size) == ("file", 0o600, 7, 8, 6)
    assert rootfs.stat("/etc/link", follow=False).link == "a"
    assert rootfs.names("/etc") == ["a", "link"]
    assert rootfs.glob("/etc/*") == rootfs.glob("**/*[!z]") + ["/etc/a", "/etc/link"]
    assert rootfs.glob("**") == ["/etc", "/etc/a", "/etc/link"]
    with pytest.raises(FileNotFoundError):
        rootfs.read("/etc/b")
    with pytest.raises(IsADirectoryError):
        rootfs.read("/etc")
""",
    )
    found, text = outcome(pytester, "--builder-specs", "specs", "test_it.py")
    assert found == {"passed": 3}, text


def test_of_several_images_a_mark_names_one(pytester: pytest.Pytester, here: Project) -> None:
    here.spec("one", "from: scratch\n")
    here.spec("two", "from: scratch\nconfig: {user: web}\n")
    here.file(
        "test_it.py",
        """
import pytest

@pytest.mark.builder_image("two")
def test_marked(image):
    assert image.config["config"]["User"] == "web"

def test_unmarked(image): pass

@pytest.mark.builder_image("three")
def test_misspelt(image): pass
""",
    )
    found, text = outcome(pytester, "--builder-specs", "specs", "--strict-markers")
    assert found == {"passed": 1, "errors": 2}, text
    assert "NAME one of one, two" in text and "'three'" in text


def test_faults_of_specs_are_faults_of_collection(pytester: pytest.Pytester, here: Project) -> None:
    here.spec("one", RIGHT)
    here.spec("bad", "from: scratch\ntests:\n  - {fiel: /a}\n")
    found, text = outcome(pytester, "--builder-specs", "specs", "--continue-on-collection-errors")
    assert found == {"passed": 2, "errors": 1}, text
    assert "specs/bad.yaml:3:6: unknown test 'fiel'" in text and "Traceback" not in text
    done = pytester.runpytest_subprocess("--builder-specs", "nowhere")
    assert "--builder-specs 'nowhere' is not a folder" in done.stderr.str()


def test_who_does_not_ask_gets_one_small_module_and_no_fixtures(
    pytester: pytest.Pytester, here: Project
) -> None:
    here.file(
        "test_it.py",
        "import sys\n\ndef test_it(pytestconfig):\n"
        "    found = {name for name in sys.modules if name.partition('.')[0] == 'builder'}\n"
        "    assert found == {'builder', 'builder.version', 'builder.cli',"
        " 'builder.cli.pytest_plugin'}\n\ndef test_fixture(rootfs): pass\n",
    )
    found, text = outcome(pytester)
    assert found == {"passed": 1, "errors": 1}, text
    assert "fixture 'rootfs' not found" in text


@pytest.mark.needs("busybox")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_containers_run_what_they_are_asked(
    pytester: pytest.Pytester, here: Project, base: Project
) -> None:
    (here.root / "base.tar").write_bytes((base.root / "base.tar").read_bytes())
    here.spec(
        "one", "from: rootfs:base.tar\nconfig: {env: {A: b}, entrypoint: [/bin/echo, said]}\n"
    )
    here.file(
        "test_it.py",
        """
def test_it(container):
    done = container.run("echo $A; echo $B >&2; id -u; pwd; cat; exit 3",
                         env={"B": "c"}, user="33", working_dir="/srv", stdin="in")
    assert done == (3, "b\\n33\\n/srv\\nin", "c\\n")
    assert container.run(["touch", "/new"]).status == 0
    assert container.run(["ls", "/new"]).status == 1
    assert container.run(["word"], entrypoint=True).stdout == "said word\\n"
    assert container.run(["sleep", "100"], timeout="1s").status == 124
    assert container.run(["nothing"]).status == 127
""",
    )
    found, text = outcome(pytester, "--builder-specs", "specs")
    assert found == {"passed": 1}, text


def test_the_plugin_is_in_the_wheel() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="pytest11", name="builder")
    assert found.value == "builder.cli.pytest_plugin"
