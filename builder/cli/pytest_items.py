"""What `pytest --builder-specs DIR` adds: every test of a spec as an item, and fixtures of images.

Images are built, and their tests run, by a builder of its own: this process may have threads, and
belongs to other tests as well. It only reads specs and the store.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from builder.cli import wiring
from builder.cli.arguments import parse
from builder.errors import BuilderError, SpecErrors
from builder.project import Project
from builder.rootfs.layers import Layers
from builder.store.store import Store
from builder.testing.rootfs import Rootfs
from builder.transport.stored import find_manifest, read_images

if TYPE_CHECKING:
    from builder.spec.model import ImageSpec
    from builder.spec.tests import Test

_KEY = pytest.StashKey["Specs"]()
_MARK = "builder_image(name): the spec whose image the fixtures image, rootfs and container are"


def begin(config: pytest.Config, folder: str) -> None:
    """For a run that asks for it. Raises pytest.UsageError."""
    path = Path(folder).absolute()
    if not path.is_dir():
        raise pytest.UsageError(f"--builder-specs {folder!r} is not a folder")
    config.stash[_KEY] = Specs(folder, path)
    config.addinivalue_line("markers", _MARK)
    config.pluginmanager.register(sys.modules[__name__], "builder-items")


class Failed(Exception):
    """A test of a spec, or a command of the builder, failed: the text is all there is to say."""


class Specs:
    """The specs of a pytest run, and what is known of their images by now."""

    def __init__(self, folder: str, path: Path) -> None:
        self.folder, self.path = folder, path.resolve()
        self._results: dict[Path, dict[str, Any]] = {}
        self._images: dict[str, Image] = {}

    def of(self, path: Path) -> list[ImageSpec]:
        """The images of a file, each with its stages; none of a file that others only extend.
        Raises SpecErrors."""
        try:
            specs, _ = self._project().load([])
        except SpecErrors:
            specs, _ = self._project().load([str(path)])
        return [spec for spec in specs.values() if Path(spec.file).resolve() == path.resolve()]

    def names(self) -> list[str]:
        project = self._project()
        project.load([])
        return list(project.images)

    def _project(self) -> Project:
        return Project(wiring.options(parse(["test", "--specs", self.folder])))

    def results(self, path: Path) -> dict[str, Any]:
        """What `builder test` says of a file; asked for once."""
        if path not in self._results:
            self._results[path] = self.builder("test", str(path), "--json")
        return self._results[path]

    def image(self, name: str) -> Image:
        """Built, as its spec stands. Raises Failed."""
        if name not in self._images:
            document = self.builder("build", name, "--json")
            if "error" in document:
                raise Failed(_said(document["error"]))
            digest = document["images"][-1]["digest"]
            store = Store(wiring.cache_dir(parse(["images"])))
            manifest = find_manifest(store, digest, None)
            found = read_images(store, manifest, f"image {name!r}")[0][1]
            self._images[name] = Image(
                name, digest, str(found.platform), found.config, Rootfs(Layers(store), found.layers)
            )
        return self._images[name]

    def builder(self, *arguments: str) -> dict[str, Any]:
        """A command whose answer is JSON. Raises Failed for any other answer."""
        command = [*_BUILDER, *arguments, "--specs", self.folder, "--progress", "quiet"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise Failed(done.stderr.strip() or f"status {done.returncode}") from None
        return answer


_BUILDER = (sys.executable, "-m", "builder")


def _said(error: Mapping[str, Any]) -> str:
    lines = []
    for each in error.get("errors", [error]):
        place = each.get("place")
        at = f"{place['file']}:{place['line']}:{place['column']}: " if place else ""
        lines += [f"{at}{each['message']}", *each.get("tail", ())]
    return "\n".join(lines)


# -- items -----------------------------------------------------------------------------------------


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the specs collected as well, if no argument has them."""
    config = session.config
    path = config.stash[_KEY].path
    given = [Path(str(each).partition("::")[0]).resolve() for each in config.args]
    if not any(path == each or each in path.parents or path in each.parents for each in given):
        config.args.append(str(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SpecFile | None:
    specs = parent.config.stash[_KEY]
    if file_path.suffix in (".yaml", ".yml") and file_path.parent.resolve() == specs.path:
        found: SpecFile = SpecFile.from_parent(parent, path=file_path)
        return found
    return None


class SpecFile(pytest.File):
    def collect(self) -> Iterator[SpecItem]:
        try:
            found = self.config.stash[_KEY].of(self.path)
        except BuilderError as error:
            raise self.CollectError(str(error)) from None
        for spec in found:
            for test in spec.tests:
                name = f"{spec.label}: {test.name}"
                yield SpecItem.from_parent(self, name=name, image=spec.label, test=test)


class SpecItem(pytest.Item):
    def __init__(self, *, image: str, test: Test, **others: Any) -> None:
        super().__init__(**others)
        self._image, self._test = image, test

    def runtest(self) -> None:
        found = self.config.stash[_KEY].results(self.path)
        place = self._test.place
        for each in found.get("tests", ()):
            at = each["place"]
            if each["image"] == self._image and (at["line"], at["column"]) == place[1:]:
                self._judge(each)
                return
        raise Failed(_said(found["error"]) if "error" in found else "the image was not built")

    def _judge(self, found: Mapping[str, Any]) -> None:
        if found["status"] == "skipped":
            pytest.skip(found["why"])
        if found["status"] == "failed":
            lines = [f"{self._test.place}: {found['why']}", *found.get("output", ())]
            raise Failed("\n".join(lines))

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        if isinstance(excinfo.value, Failed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._test.place.line - 1, self.name


# -- fixtures --------------------------------------------------------------------------------------


class Image(NamedTuple):
    """An image that was built."""

    name: str
    digest: str  # of the manifest
    platform: str
    config: Mapping[str, Any]  # the config document
    rootfs: Rootfs


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str


class Container:
    """Each `run` is a container of its own, which is gone afterwards."""

    def __init__(self, image: Image) -> None:
        self.image = image

    def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        working_dir: str = "",
        network: str = "none",
        stdin: str = "",
        timeout: str = "60s",
        entrypoint: bool = False,
    ) -> Done:
        """Text runs under /bin/sh; with `entrypoint` words are arguments of the image's. 124: it
        took longer than `timeout`."""
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        options = ["--network", network, "--timeout", timeout, "-i"]
        for name, value in (env or {}).items():
            options += ["-e", f"{name}={value}"]
        options += ["-u", user] if user else []
        options += ["-w", working_dir] if working_dir else []
        if not entrypoint:
            options += ["--entrypoint", words.pop(0)]
        whole = [*_BUILDER, "run", "--progress", "quiet", *options, self.image.digest, *words]
        done = subprocess.run(whole, capture_output=True, text=True, input=stdin)
        if done.returncode == 125:  # the builder itself failed
            raise Failed(f"{shlex.join(whole)}\n{done.stderr.strip()}")
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def image(request: pytest.FixtureRequest) -> Image:
    """The image of the spec that the mark `builder_image` names; of the only one, without it."""
    specs = request.config.stash[_KEY]
    mark = request.node.get_closest_marker("builder_image")
    try:
        names = [mark.args[0]] if mark and mark.args else specs.names()
        if len(names) != 1:
            pytest.fail(
                f"which image? mark the test with @pytest.mark.builder_image(NAME), NAME one of"
                f" {', '.join(names)}",
                pytrace=False,
            )
        found: Image = specs.image(names[0])
    except (BuilderError, Failed) as error:
        said = str(error)
    else:
        return found
    pytest.fail(said, pytrace=False)  # behind the error, which pytest would show again


@pytest.fixture
def rootfs(image: Image) -> Rootfs:
    """The files of the image, without running anything."""
    return image.rootfs


@pytest.fixture
def container(image: Image) -> Container:
    """Runs commands in the image."""
    return Container(image)
