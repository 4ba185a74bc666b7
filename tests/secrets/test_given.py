"""Who gives a secret: --secret in both spellings, builder.yaml; and what each says when wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.errors import BuilderError, LayerError, UsageError
from builder.layer.entry import FILE, SYMLINK, Entry
from builder.secrets.given import MOST, Need, Secrets, parse_secrets, parse_ssh
from builder.spec.model import Place

AT = Place("specs/x.yaml", 3, 5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=b", {"a": "b"}),
        ("a=b=c,d", {"a": "b=c,d"}),
        ("a=env:B", {"a": "env:B"}),
        ("a=./env:B", {"a": "./env:B"}),
        ("id=a,src=b", {"a": "b"}),
        ("id=a,source=b", {"a": "b"}),
        ("type=file,id=a,src=b", {"a": "b"}),
        ("src=b,id=a", {"a": "b"}),
        ("id=a,env=B", {"a": "env:B"}),
        ("type=env,id=a,env=B", {"a": "env:B"}),
        ("id=a,type=env,src=B", {"a": "env:B"}),
        ("id=a,src=env:B", {"a": "./env:B"}),
        ('id=a,"src=b,c"', {"a": "b,c"}),
        ("id=HERE", {"HERE": "env:HERE"}),
        ("id=there", {"there": "there"}),
        ("id=HERE,type=file", {"HERE": "HERE"}),
    ],
)
def test_spellings(text: str, found: dict[str, str]) -> None:
    assert parse_secrets([text], {"HERE": "x"}) == found


@pytest.mark.parametrize(
    "text",
    ["", "hunter2", "=hunter2", "a b=hunter2", "../a=hunter2", "a=", "a=env:", "id=",
     "id=a,hunter2", "id=a,src=hunter2,src=b", "id=a,type=hunter2", "src=hunter2", "id=a/b,src=x",
     "id=a,mode=0400", "type=env,id=a,env=", "id=a\rb,src=hunter2",
     "id=a,src=" + "hunter2" * 20_000],
)  # fmt: skip
def test_wrong_spellings_say_no_value(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_secrets([text], {})
    assert caught.value.hint and "NAME=FILE" in caught.value.hint
    assert text == "hunter2" or "hunter2" not in caught.value.message


def test_ssh() -> None:
    found = parse_ssh(["default", "a=/x,/y", "b="])
    assert found == {"default": "", "a": "/x,/y", "b": ""}
    for text in ("", "=x", "a b", "/sock"):
        with pytest.raises(UsageError, match="expected NAME"):
            parse_ssh([text])


def test_a_key_without_a_name_is_told_the_name() -> None:
    with pytest.raises(UsageError) as caught:
        parse_ssh(["/home/user/.ssh/id_ed25519"])
    assert caught.value.hint == "--ssh default=/home/user/.ssh/id_ed25519"
    assert parse_ssh(["default=/home/user/.ssh/id_ed25519"])


def test_the_command_line_is_over_the_project_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"of the file\n")
    (tmp_path / "other").write_bytes(b"other\0")
    own = {"a": {"file": "token"}, "b": {"env": "B"}, "c": {"file": "token"}}
    given = {"c": str(tmp_path / "other"), "d": "env:D", "e": b"bytes"}
    secrets = Secrets(given, {"B": "of B", "D": "\udcff"}, own, str(tmp_path))
    values = {name: secrets.value(name) for name in "abcde"}
    assert values == {
        "a": b"of the file\n", "b": b"of B", "c": b"other\0", "d": b"\xff", "e": b"bytes",
    }  # fmt: skip
    (tmp_path / "token").unlink()
    assert secrets.value("a") == b"of the file\n"  # read once


def test_a_pipe_of_the_shell_and_one_in_a_folder(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    assert Secrets({"a": f"/dev/fd/{reading}"}, {}).value("a") == b"piped"
    os.close(reading)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BuilderError, match="not a regular file"):
        Secrets({"a": str(tmp_path / "pipe")}, {}).value("a")


def test_what_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "large").write_bytes(b"x" * (MOST + 1))
    (tmp_path / "most").write_bytes(b"x" * MOST)
    (tmp_path / "nul").write_bytes(b"a\0b")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "in" / "link").symlink_to("../most")
    names = ("folder", "large", "most", "nul", "empty", "nothing")
    given = {name: str(tmp_path / name) for name in names} | {"variable": "env:NO"}
    own = {"up": {"file": "../most"}, "link": {"file": "link"}, "root": {"file": "/etc/hostname"},
           "gone": {"file": "gone"}}  # fmt: skip
    secrets = Secrets(given, {}, own, str(tmp_path / "in"))
    needs = [Need(name, AT, AT) for name in (*names, "variable", *own, "nothin", "may")]
    needs += [Need("large", AT, AT), Need("nul", AT, AT, env=True)]
    needs += [Need("maybe", AT, AT, required=False), Need("no", AT, AT, ssh=True)]
    values, errors = secrets.read(needs)
    assert set(values) == {"most", "nul", "empty"}
    said = {error.what.split("'")[1]: f"{error.what} | {error.hint}" for error in errors.values()}
    assert len(said) == 11
    expected = {
        "folder": "it is not a regular file", "large": "more than 512000 bytes",
        "nul": "holds a NUL byte",
        "nothing": "No such file", "variable": "no variable 'NO' | export NO", "gone": "No such",
        "up": "outside the project | give it yourself: --secret up=../most", "link": "outside",
        "root": "outside", "nothin": "did you mean 'nothing'?", "may": "--secret may=FILE",
    }  # fmt: skip
    for name, text in expected.items():
        assert text in said[name], said[name]
    assert all(error.place == AT for error in errors.values())


def test_the_python_api(tmp_path: Path) -> None:
    from builder.make.guard import Guard
    from builder.project import Options, Project

    (tmp_path / "specs").mkdir()
    options = Options(str(tmp_path / "store"), str(tmp_path / "specs"), secrets={"a": b"value"})
    project = Project(options)
    assert project.secrets.value("a") == b"value"
    guard = Guard({"a": b"value"}, project.secrets, project.agents)
    entries = [
        Entry(b"etc/x", FILE, 0o644, size=3),
        Entry(b"etc/y", SYMLINK, 0o777, link=b"../a value"),
        Entry(b"etc/z", FILE, 0o644, size=0, xattrs=((b"user.a", b"some value"),)),
        Entry(b"etc/value", FILE, 0o644, size=0),
        Entry(b"etc/w", FILE, 0o644, size=9),
    ]
    contents = [b"val", None, b"", b"", b"my value."]
    said = []
    for entry, content in zip(entries, contents, strict=True):
        try:
            assert list(guard.changes([(entry, content)])) == [(entry, content)]
        except LayerError as error:
            said.append(error.message)
    holds = "would hold the secret 'a'"
    assert said == [f"'/etc/{name}' {holds}" for name in ("y", "z", "***", "w")]
