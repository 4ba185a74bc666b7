"""The command line where a user would stumble."""

from __future__ import annotations

from tests.cli.conftest import Project


def test_several_images_do_not_go_to_one_place(project: Project) -> None:
    for name in ("one", "two"):
        project.spec(name, "from: scratch\nsteps:\n  - {file: /a, content: a}\n")
    made = project.run("build", "--output", "oci:out", status=2)
    assert "error: --output 'oci:out': 2 images would be written to one place: one, two" in (
        made.stderr
    )
    assert not (project.root / "out").exists()
