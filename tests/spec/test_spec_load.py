"""From names and paths to specs: variables, bases, and the compiled cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors, UsageError
from builder.oci.image import Platform
from builder.spec.compiled import decode_specs, encode_specs, entry_name
from builder.spec.files import find_spec
from builder.spec.gather import Loaded, load_project
from builder.spec.project import ProjectFile, load_project_file
from builder.steps import VERBS


class Kept:
    """A cache in memory that counts."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.hits = 0

    def load(self, name: str) -> bytes | None:
        self.hits += name in self.entries
        return self.entries.get(name)

    def save(self, name: str, data: bytes) -> None:
        self.entries[name] = data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    specs = tmp_path / "specs"
    specs.mkdir()
    return specs


def project(*images: str, **more: object) -> Loaded:
    return load_project(images, "specs", verbs=VERBS, environ={}, **more)  # type: ignore[arg-type]


def messages(*images: str, **more: object) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        project(*images, **more)
    return [error.message for error in caught.value.errors]


def test_set_wins_over_vars_files_and_these_over_the_spec(folder: Path) -> None:
    (folder / "a.yaml").write_text("from: scratch\nvars: {a: 1, b: 1, c: 1}\n")
    Path("one.yaml").write_text("b: 2\nc: 2\nextra: x\n")
    Path("two.yaml").write_text("c: 3\n")
    files = ["one.yaml", "two.yaml"]
    spec = load_spec("specs/a.yaml", environ={}, vars_files=files, sets={"c": "4"})
    assert spec.variables == {"a": 1, "b": 2, "c": 4, "extra": "x"}


GIVEN: list[tuple[str, str, object]] = [
    # the default as YAML, what --set gives, the value (an exception: refused)
    ("false", "true", True),
    ("true", "false", False),
    ("true", "False", False),
    *(("false", text, UsageError) for text in ("1", "0", "yes", "no", "on", "", "'true'", "truee")),
    ("8080", "80", 80),
    ("8080", "-1", -1),
    *(
        ("8080", text, UsageError)
        for text in ("", "x", "8_0", "0x1f", "1.5", "1e3", "+1", " 1", "٣")
    ),
    ("8080", "080", UsageError),
    ("8080", "9" * 5000, UsageError),
    ("1.5", "2.25", 2.25),
    ("1.5", "2", 2),
    *(("1.5", text, UsageError) for text in ("1.10", "x", "1e400", ".inf", ".nan", "")),
    ('"1.5"', "1.10", "1.10"),
    ("text", "false", "false"),
    ("text", "", ""),
    ("text", "a,b", "a,b"),
    ("null", "7", "7"),
    ("[a]", "b", ["b"]),
    ("[a]", "b, c", ["b", "c"]),
    ("[a]", "", []),
    ("[]", "1,2", ["1", "2"]),
    ("[80, 443]", "8080,8443", [8080, 8443]),
    ("[80, 443]", "8080,x", UsageError),
    ("[true]", "false,true", [False, True]),
    ("[a, 1]", "2,b", ["2", "b"]),
    ("[a]", '["b, c", 2, true, null, {"d": []}]', ["b, c", 2, True, None, {"d": []}]),
    *(("[a]", text, UsageError) for text in ("[", "[a]", "[1.10]", "[NaN]", "[" * 100_000)),
    ("{a: 1}", '{"b": {"c": [1]}}', {"b": {"c": [1]}}),
    *(("{a: 1}", text, UsageError) for text in ("", "b", "[1]", "1", "{", "null")),
]


@pytest.mark.parametrize(("default", "text", "value"), GIVEN, ids=range(len(GIVEN)))
@pytest.mark.parametrize("where", ["spec", "vars file"])
def test_set_takes_the_type_of_the_default(
    folder: Path, default: str, text: str, value: object, where: str
) -> None:
    Path("v.yaml").write_text(f"x: {default}\n", encoding="utf-8")
    own = default if where == "spec" else "other"
    (folder / "a.yaml").write_text(f"from: scratch\nvars:\n  x: {own}\n", encoding="utf-8")
    files = ["v.yaml"] if where == "vars file" else []
    if value is UsageError:
        with pytest.raises(UsageError, match=r"^--set x=.*: expected ") as caught:
            load_spec("specs/a.yaml", environ={}, vars_files=files, sets={"x": text})
        assert "\n" not in caught.value.message and len(caught.value.message) < 200
        return
    spec = load_spec("specs/a.yaml", environ={}, vars_files=files, sets={"x": text})
    assert spec.variables == {"x": value}
    assert type(spec.variables["x"]) is type(value)


def test_a_misspelt_set_is_an_error(folder: Path) -> None:
    (folder / "a.yaml").write_text("from: scratch\nvars: {title: x}\n")
    with pytest.raises(UsageError, match="--set 'titel': no such variable, did you mean 'title'"):
        load_spec("specs/a.yaml", environ={}, sets={"titel": "y"})


def test_set_needs_to_be_known_to_one_spec_of_several(folder: Path) -> None:
    (folder / "a.yaml").write_text("from: scratch\n")
    (folder / "b.yaml").write_text("from: image:a\nvars: {title: x}\n")
    specs = project("b", sets={"title": "y"}).specs
    assert specs["b"].variables == {"title": "y"}
    assert specs["a"].variables == {}


def test_a_vars_file_is_as_strict_as_a_spec(folder: Path) -> None:
    (folder / "a.yaml").write_text("from: scratch\n")
    (folder / "b.yaml").write_text("from: scratch\n")
    Path("v.yaml").write_text("a: 1.10\na: 2\nspec: x\n")
    assert [each.split(", exp")[0] for each in messages(vars_files=["v.yaml"])] == [
        "v.yaml:1:4: '1.10' is a number that would be written '1.1' in a template",
        "v.yaml:2:1: duplicate key 'a', first given in line 1",
        "v.yaml:3:1: 'spec' is a name that templates already have",
    ]


def test_bases_stand_before_what_uses_them(folder: Path) -> None:
    (folder / "a.yaml").write_text("from: image:b\n")
    (folder / "b.yml").write_text("from: image:c\n")
    (folder / "c.yaml").write_text("from: scratch\nname: other\n")
    (folder / "d.yaml").write_text("from: scratch\n")
    found = project("a")
    assert list(found.specs) == ["c", "b", "a"]
    assert found.asked == ("a",)
    assert project().asked == ("a", "b", "c", "d")


def test_a_missing_base_is_named_with_its_place(folder: Path) -> None:
    (folder / "base.yaml").write_text("from: scratch\n")
    (folder / "a.yaml").write_text("# x\nfrom: image:bse\n")
    assert messages("a") == [
        "specs/a.yaml:2:7: base 'image:bse' is not there, expected a spec of 'specs', "
        "did you mean 'base'?"
    ]


def test_bases_in_a_circle_are_an_error(folder: Path) -> None:
    for name, base in ("ab", "bc", "ca"):
        (folder / f"{name}.yaml").write_text(f"from: image:{base}\n")
    assert messages("a") == ["specs/c.yaml:1:7: bases in a circle: a -> b -> c -> a"]


def test_a_very_long_line_of_bases_is_an_error(folder: Path) -> None:
    for number in range(300):
        (folder / f"s{number}.yaml").write_text(f"from: image:s{number + 1}\n")
    assert messages("s0") == ["specs/s100.yaml:1:7: more than 100 bases below each other"]


def test_two_images_of_one_name_are_an_error(folder: Path) -> None:
    (folder / "a.yaml").write_text("from: scratch\n")
    (folder / "b.yaml").write_text("from: scratch\nname: a\n")
    assert messages() == ["specs/b.yaml:1:1: the name 'a' is specs/a.yaml's already"]


def test_errors_of_all_specs_come_together(folder: Path) -> None:
    (folder / "a.yaml").write_text("form: x\n")
    (folder / "b.yaml").write_text("from: [x]\n")
    assert len(messages()) == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("sit", "no spec 'sit' in 'specs', did you mean 'site'?"),
        ("x/site.yaml", "no spec file 'x/site.yaml'"),
        ("two", "two specs for 'two': specs/two.yaml and specs/two.yml"),
    ],
)
def test_an_image_that_is_not_there(image: str, message: str, folder: Path) -> None:
    for name in ("site.yaml", "two.yaml", "two.yml"):
        (folder / name).write_text("from: scratch\n")
    with pytest.raises(UsageError) as caught:
        find_spec(image, "specs")
    assert caught.value.message == message


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="cannot read the folder 'no-such': No such file"):
        load_project([], "no-such", verbs=VERBS, environ={})


# The compiled cache.

AMD = Platform()

SPEC = """
from: {debootstrap: bookworm, include: [a]}
vars: {title: x, list: [1, {a: null}]}
steps:
  - {copy: [a, b], dest: /c/, preserve: [mode], exclude: [x]}
  - {file: /a, content: "{{ title }}"}
  - {template: t, dest: /t}
  - {directory: /d}
  - {symlink: /s, to: t}
  - {remove: /r}
  - {unpack: u, dest: /u}
  - {run: "x{{ env('HOME', '') }}", env: {A: b}}
  - {run: [a]}
config: {env: {A: b}, cmd: [], healthcheck: {test: a, interval: 1s}}
tags: a:b
platforms: [linux/arm/v7]
"""


def test_a_compiled_spec_is_the_spec(folder: Path) -> None:
    (folder / "a.yaml").write_text(SPEC)
    kept = Kept()
    fresh = load_spec("specs/a.yaml", environ={}, cache=kept)
    again = load_spec("specs/a.yaml", environ={}, cache=kept)
    assert kept.hits == 1
    assert again == fresh
    assert repr(again) == repr(fresh)


def test_whatever_goes_into_a_spec_is_in_its_entrys_name() -> None:
    names = {
        entry_name("a", b"x", {}, [], {}, AMD),
        entry_name("a", b"x", {}, [], {}, Platform("linux", "arm64")),
        entry_name("a", b"x", {}, [], {}, AMD, None, 0),
        entry_name("b", b"x", {}, [], {}, AMD),
        entry_name("a", b"y", {}, [], {}, AMD),
        entry_name("a", b"x", {"k": "v"}, [], {}, AMD),
        entry_name("a", b"x", {}, [], {}, AMD, {}),
        entry_name("a", b"x", {}, [], {}, AMD, {"user": "a"}),
        entry_name("a", b"x", {}, [("f", b"1")], {}, AMD),
        entry_name("a", b"x", {}, [("f", b"2")], {}, AMD),
        entry_name("a", b"x", {}, [("f", b"1"), ("f", b"1")], {}, AMD),
        entry_name("a", b"x", {}, [], {"k": "v"}, AMD),
        entry_name("a", b"x", {}, [], {}, AMD, {}, None, "stage"),
    }
    assert len(names) == 13


def test_an_entry_counts_only_while_env_answers_the_same(folder: Path) -> None:
    (folder / "a.yaml").write_text("from: scratch\nname: \"n{{ env('A', '') }}\"\n")
    kept = Kept()

    def name(**environ: str) -> str:
        return load_spec("specs/a.yaml", environ=environ, cache=kept).name

    assert [name(), name(A="1"), name(A="1", B="x"), name(A="2"), name()] == [
        *("n", "n1", "n1", "n2", "n")
    ]


def test_garbage_in_the_cache_is_a_miss(folder: Path) -> None:
    (folder / "a.yaml").write_text(SPEC)
    spec = load_spec("specs/a.yaml", environ={})
    data = encode_specs((spec,), {})
    assert decode_specs(data, {}, VERBS, {}.get) == (spec,)
    assert decode_specs(None, {}, VERBS, {}.get) is None
    for at in range(0, len(data), 7):
        torn = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert decode_specs(data[:at], {}, VERBS, {}.get) is None
        assert decode_specs(torn, {}, VERBS, {}.get) is None


def test_a_compiled_spec_needs_no_yaml_and_no_jinja(folder: Path) -> None:
    (folder / "a.yaml").write_text(SPEC)
    program = """
import os, sys
from builder.spec.gather import load_project
from builder.steps import VERBS
class Files:
    def load(self, name):
        return open(name, "rb").read() if os.path.exists(name) else None
    def save(self, name, data):
        open(name, "wb").write(data)
load_project([], "specs", verbs=VERBS, environ={}, cache=Files())
heavy = {"yaml", "jinja2", "difflib", "dataclasses", "inspect", "unicodedata", "builder.spec.node"}
print(sorted(heavy & set(sys.modules)))
"""
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert "yaml" in runs[0].stdout
    assert runs[1].stdout == "[]\n"


PROJECT_FILES: dict[str, tuple[str | None, str]] = {
    # what builder.yaml holds, what it is wrong with
    "name: shop\n": (None, "shop"),
    'name: "shop.eu-1_b"\n': (None, "shop.eu-1_b"),
    "{}\n": (None, ""),
    "": ("builder.yaml:1:1: the file is empty, expected a mapping", ""),
    "name: Shop\n": ("builder.yaml:1:7: 'Shop' ", ""),
    "name: /shop\n": ("builder.yaml:1:7: '/shop' ", ""),
    "name: 1.5\n": ("builder.yaml:1:7: '1.5' is a number", ""),
    "name:\n": ("builder.yaml:1:6: nothing is given", ""),
    "name: [a]\n": ("builder.yaml:1:7: found a list", ""),
    "name: \"{{ env('X') }}\"\n": ("builder.yaml:1:7: \"{{ env('X') }}\" is a template", ""),
    "nmae: shop\n": ("builder.yaml:1:1: unknown key 'nmae' in a project file", ""),
    "name: a\nname: b\n": ("builder.yaml:2:1: ", ""),
    "- name\n": ("builder.yaml:1:1: found a list, expected a project file", ""),
    "name: a\nname\n": ("builder.yaml:", ""),
    "name: \xff\n": ("builder.yaml:1:7: ", ""),
}  # fmt: skip


@pytest.mark.parametrize("text", PROJECT_FILES)
def test_a_project_file_is_as_strict_as_a_spec(folder: Path, text: str) -> None:
    wrong, name = PROJECT_FILES[text]
    Path("builder.yaml").write_bytes(text.encode("latin-1"))
    kept: dict[str, bytes] = {}

    class Kept:
        load = kept.get
        save = kept.__setitem__

    if wrong:
        with pytest.raises(SpecErrors) as caught:
            load_project_file(".", Kept())  # type: ignore[arg-type]
        assert caught.value.errors[0].message.startswith(wrong)
        assert not kept
        return
    read = load_project_file(".", Kept())  # type: ignore[arg-type]
    assert read == ProjectFile(name or None)
    assert len(kept) == 1 and load_project_file(".", Kept()) == read  # type: ignore[arg-type]
    for key in kept:
        kept[key] = b"garbage"
    assert load_project_file(".", Kept()) == read  # type: ignore[arg-type]


def test_without_a_project_file_nothing_is_said(folder: Path) -> None:
    assert load_project_file(".") == ProjectFile()
    Path("builder.yaml").mkdir()
    with pytest.raises(UsageError, match="cannot read the project file"):
        load_project_file(".")
