"""`pip`: packages of Python, into the image's Python or an environment of their own.

Source: pip install (Options, Environment Variables, Requirements File Format), PEP 508, PEP 552
(.pyc files that hold a hash and no time), PEP 668 (a distribution's own Python), venv.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError
from builder.plan.step import Explained
from builder.spec.model import Place, shown
from builder.steps.packages import (
    BEGIN,
    DOWNLOADS,
    END,
    PackageStep,
    downloads,
    given_mounts,
    is_there,
    package_list,
    several,
    shared_fields,
)

if TYPE_CHECKING:
    from builder.errors import CommandFailed
    from builder.rootfs.view import View
    from builder.spec.fields import Reader, Table
    from builder.spec.mounts import Mount
    from builder.spec.node import Node

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9._, -]*\])?"
_VERSION = r"(===?|~=|!=|<=?|>=?) *[A-Za-z0-9.*+!_-]+"
PACKAGE = rf"^{_NAME} *(({_VERSION}( *, *{_VERSION})*)? *(;.+)?|@ *[!-~]+( +;.+)?)$"
FOLDER = "/run/requirements/"
"""Where the step sees the files of requirements, each by its path below the context."""

_SCRIPT = (
    BEGIN
    + rf"""export PIP_CACHE_DIR=/tmp/.cache.$$
mkdir $PIP_CACHE_DIR
[ ! -d {DOWNLOADS} ] || for each in http http-v2; do
  mkdir -p {DOWNLOADS}/$each; ln -s {DOWNLOADS}/$each $PIP_CACHE_DIR/$each
done
"""
    + r"""packages=$1 python=$2 venv=$3 system=$4 files=$5
command -v "$python" > /dev/null || { echo "no python '$python'"; exit 127; }
if [ -n "$venv" ]; then
  [ -e "$venv/pyvenv.cfg" ] || "$python" -m venv "$venv"
  python=$venv/bin/python
fi
[ -z "$system" ] || export PIP_BREAK_SYSTEM_PACKAGES=1
newline='
'
case $packages in *"$newline"*) IFS=$newline ;; *) IFS=' ' ;; esac
set -f
set -- $packages
IFS=$newline
"$python" -m pip install $files -- "$@"
set +f
IFS=' '
"""
    + END
)
"""$1: the packages, between spaces, or behind each a newline where one of them has spaces; $2 the
interpreter, $3 the folder of an environment or "", $4 whether a distribution's Python may be
changed or "", $5 options that name files, a line each word. Of pip's cache what it downloaded is
kept, not the wheels that it built: those may hang on what the image had."""


class _Pip(NamedTuple):
    place: Place
    name: str | None
    packages: tuple[str, ...]
    places: tuple[Place, ...] = ()
    requirements: tuple[str, ...] = ()  # files of the context
    constraints: tuple[str, ...] = ()
    python: str = "python3"
    venv: str | None = None
    system: bool = False
    env: Mapping[str, str] = {}
    timeout: int = 0
    given: tuple[Mount, ...] = ()  # its mounts


class Pip(_Pip, PackageStep):
    __slots__ = ()
    verb = "pip"
    doc = "Install packages of Python."
    script = _SCRIPT

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fields import Field, Kind, boolean, list_of, text
        from builder.spec.kinds import ENV, NAME_FIELD, SOURCE, absolute, matching
        from builder.spec.node import MAPPING

        package = text(package_name, expected="a package", pattern=PACKAGE)
        packages = package_list(package, "a list of packages such as [flask, requests==2.32.*]")
        files = list_of(SOURCE, one=True, least=1, expected="a list of files")

        def read(reader: Reader, node: Node) -> Any:
            """Packages and their places, or the files that list them."""
            from builder.spec.fields import BAD, read_table

            if node.kind != MAPPING:
                return packages.read(reader, node)
            given = read_table(reader, node, table, "'pip'")
            return BAD if given is None else given["requirements"]

        table = {"requirements": Field(files, "Files of requirements.", required=True)}
        from builder.spec.fields import table_schema

        either = {"anyOf": [packages.schema, table_schema(table)]}
        return {
            "pip": Field(
                Kind(read, either),
                "Packages as pip names them, or {requirements: FILE}.",
                required=True,
            ),
            "name": NAME_FIELD,
            "constraints": Field(files, "Files of constraints, below the context."),
            "python": Field(
                text(matching("[A-Za-z0-9_./+-]+", "a program such as python3.12")),
                "The interpreter, python3 by default.",
            ),
            "venv": Field(text(absolute), "The folder of an environment; made when missing."),
            "system": Field(boolean(), "true: into a distribution's own Python."),
            "env": Field(ENV, "Environment of pip, such as PIP_INDEX_URL."),
            **shared_fields(),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Pip:
        from builder.spec.kinds import place

        at = node.get("pip") or node
        listed = given["pip"] if isinstance(given["pip"][0], tuple) else None
        packages, places = listed or ((), ())
        if given.get("system") and "venv" in given:
            raise (node.get("system") or node).fault("'system' and 'venv' of one step, write one")
        return cls(
            place(reader, at),
            given.get("name"),
            packages,
            places,
            () if listed else given["pip"],
            given.get("constraints", ()),
            given.get("python", "python3"),
            given.get("venv"),
            given.get("system", False),
            given.get("env", {}),
            given.get("timeout", 0),
            given_mounts(reader, node, given),
        )

    def created_by(self) -> str:
        files = [word for file in self.requirements for word in ("-r", shown(file))]
        return " ".join(("pip install", *files, *map(shown, self.packages)))

    def arguments(self) -> tuple[str, ...]:
        spaces = any(" " in each for each in self.packages)
        listed = "".join(f"{each}\n" for each in self.packages) if spaces else ""
        options = (("--requirement", self.requirements), ("--constraint", self.constraints))
        files = [f"{option}\n{FOLDER}{file}" for option, given in options for file in given]
        return (
            listed or " ".join(self.packages),
            self.python,
            self.venv or "",
            "system" if self.system else "",
            "\n".join(files),
        )

    def own(self) -> tuple[Mount, ...]:
        from builder.spec.mounts import Bind

        files = dict.fromkeys((*self.requirements, *self.constraints))
        binds = (Bind(self.place, FOLDER + file, (file,)) for file in files)
        return (downloads(self.verb, self.place), *binds)

    def settings(self, given: Mapping[str, str]) -> dict[str, str]:
        """What says which Python, and where packages come from, counts of the config, too."""
        kept = {name: text for name, text in given.items() if _is_of_pip(name)}
        return {
            **kept,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_PROGRESS_BAR": "off",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIP_NO_WARN_SCRIPT_LOCATION": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
        }

    def look(self, view: View) -> None:
        folders = ("/usr/local/bin", "/usr/bin", "/bin")
        if self.python != "python3" or any(is_there(view, f"{each}/python3") for each in folders):
            return  # or on the PATH, as the script finds out
        raise BuilderError("pip needs python3, which the image does not have here", _INSTALL)

    def explain(self, error: CommandFailed) -> Explained | None:
        said = "\n".join(error.tail)
        if found := re.search("^no python '(.*)'$", said, re.M):
            return Explained(f"the image has no {found[1]}", _INSTALL, self.place)
        if "No module named pip" in said or "ensurepip is not available" in said:
            return Explained("the image's Python has no pip", _INSTALL, self.place)
        if "externally-managed-environment" in said:
            return Explained(
                "the image's Python belongs to its distribution",
                "write venv: /opt/venv, or system: true to install beside its packages",
                self.place,
            )
        if found := re.search(rf"No such file or directory: '{FOLDER}(.*?)'", said):
            return Explained(
                f"a file of requirements names {found[1]!r}, which the step does not have",
                f"list it, too: pip: {{requirements: [..., {found[1]}]}}",
                self.place,
            )
        return self._no_package(said)

    def _no_package(self, said: str) -> Explained | None:
        found = re.search(
            r"No matching distribution found for (\S+?)(?=[<>=!~;\[(@ ]|$)", said, re.M
        )
        if found is None:
            return None
        listed = re.findall(r"\(from versions: (.*?)\)", said)
        versions = [] if not listed or listed[-1] == "none" else listed[-1].split(", ")
        place = self.place
        for package, at in zip(self.packages, self.places, strict=False):
            if _normal(self.name_of(package)) == _normal(found[1]):
                place = at
        if versions:
            hint = f"there is {', '.join(versions[-5:][::-1])}"
            return Explained(f"no version of {found[1]!r} fits what is asked for", hint, place)
        return Explained(f"no package {found[1]!r}", "is its name right, and the index?", place)

    def name_of(self, package: str) -> str:
        return re.split(r"[\s=<>~!@;\[]", package, maxsplit=1)[0]


_INSTALL = (
    "a step before installs it: apt: [python3-pip, python3-venv], apk: [py3-pip]"
    " or dnf: [python3-pip]"
)


def package_name(value: str) -> str:
    from builder.spec.syntax import Malformed

    file = value.endswith(".txt")
    if not file and len(value) <= 500 and "\n" not in value and re.fullmatch(PACKAGE, value):
        return value
    hint = several(value, PACKAGE)
    if file:
        path = re.split(r"[\s=]", value)[-1]  # of -r FILE and the like
        hint = f"write pip: {{requirements: {path}}}"
    elif value.startswith((".", "/")):
        hint = "a folder of yours: `run: pip install .` with a `bind` mount"
    raise Malformed("is not a package, expected one such as flask or requests==2.32.*", hint)


def _is_of_pip(name: str) -> bool:
    return name in ("PATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") or (
        name.startswith("PIP_")
    )


def _normal(name: str) -> str:
    """As PEP 503 has it."""
    return re.sub("[-_.]+", "-", name).lower()
