"""`builder build --watch`, as somebody sees it who writes pages and specs beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Project, project

__all__ = ["project"]

PATIENCE = 120
"""Seconds for what has to come; a loaded machine is slow."""


class Watching:
    """A builder that watches; its lines on both streams, as they come."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.lines: list[str] = []
        self._came = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "builder", "build", "--watch", *arguments],
            cwd=project.root,
            env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._seen = 0

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._came:
                self.lines.append(line.rstrip("\n"))
                self._came.notify_all()

    def until(self, text: str) -> list[str]:
        """The lines from where the last search ended to the first that holds `text`."""
        end = time.monotonic() + PATIENCE
        with self._came:
            at = start = self._seen
            while True:
                while at < len(self.lines):
                    at += 1
                    if text in self.lines[at - 1]:
                        self._seen = at
                        return self.lines[start:at]
                left = end - time.monotonic()
                assert left > 0 and self.process.poll() is None, (text, self.lines[start:])
                self._came.wait(left)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join()
        return status


@pytest.fixture
def site(project: Project) -> Project:
    project.file("public/page.html", "first\n")
    project.file("title.j2", "{{ title }}\n")
    project.file(".dockerignore", "**/*.bak\ndrafts/\n")
    project.spec(
        "site",
        "from: scratch\nvars: {title: A}\nsteps:\n  - {copy: public/, dest: /}\n"
        "  - {template: title.j2, dest: /title}\n",
    )
    return project


@contextlib.contextmanager
def watching(project: Project, *arguments: str) -> Iterator[Watching]:
    found = Watching(project, *arguments)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.stop(signal.SIGKILL)


def save(path: Path, text: str) -> None:
    """As editors do it: beside, then in its place."""
    beside = path.with_name(f"{path.name}.new~")
    beside.write_text(text)
    beside.rename(path)


def test_what_is_saved_is_built_and_what_is_ignored_is_not(site: Project) -> None:
    with watching(site) as seen:
        seen.until("site sha256:")
        save(site.root / "public/page.html", "second\n")
        seen.until("changed: public/page.html")
        assert "/page.html: content" in seen.until("public/")[-1]
        seen.until("site sha256:")
        # nothing of these is of the image
        site.file("public/page.bak", "x")
        site.file("drafts/x", "x")
        site.file("elsewhere", "x")
        os.utime(site.root / "public/page.html", (1, 1))
        save(site.root / "title.j2", "{{ title }}!\n")
        told = seen.until("site sha256:")
        assert sum(line.startswith("changed") for line in told) == 1, told
        assert any("public/  hit" in line for line in told), told
        site.file("public/folder/deep/new.html", "new\n")
        assert "/folder/deep/new.html: new" in seen.until("public/  built")[-1]
        seen.until("site sha256:")
        (site.root / "public/page.html").unlink()
        assert "/page.html: gone" in seen.until("public/  built")[-1]
        seen.until("site sha256:")
        assert seen.stop() == 130
        assert seen.lines[-1] == "interrupted"


def test_an_error_is_shown_and_it_goes_on(site: Project) -> None:
    spec = site.root / "specs/site.yaml"
    text = spec.read_text()
    with watching(site) as seen:
        seen.until("site sha256:")
        save(spec, text.replace("copy", "cpoy"))
        told = seen.until("error: ")
        assert told[0] == "changed: specs/site.yaml"
        assert "specs/site.yaml:4:6" in told[-1], told
        save(spec, text.replace("title: A", "title: B"))
        assert "/title: content" in seen.until("template /title")[-1]
        seen.until("site sha256:")
        save(site.root / "title.j2", "{{ nothing }}")
        seen.until("error: title.j2:1")
        save(site.root / "title.j2", "{{ title }}, C")
        seen.until("site sha256:")
        assert seen.stop(signal.SIGTERM) == 143


def test_a_job_in_the_background_ends_with_its_build(site: Project) -> None:
    """A shell has it ignore interrupts."""
    shutil.copy("/bin/busybox", site.root)
    site.file(
        "specs/slow.yaml",
        "from: scratch\nsteps:\n  - {copy: busybox, dest: /}\n"
        "  - run: [/busybox, sh, -c, 'echo it began; /busybox sleep 600']\n    name: slow\n",
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with watching(site, "slow", "--progress", "plain") as seen:
            seen.until("it began")
            assert seen.stop(signal.SIGTERM) == 143
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_begins_with_what_cannot_be_built(site: Project) -> None:
    spec = site.root / "specs/site.yaml"
    text = spec.read_text()
    spec.write_text("from: [")
    with watching(site) as seen:
        seen.until("error: specs/site.yaml:2:1")
        save(spec, text)
        seen.until("site sha256:")
        assert seen.stop() == 130


def test_a_change_while_it_builds_is_not_lost(site: Project) -> None:
    """Pages are saved at whatever a build says, so at all its stages; the last one is built in the
    end, by nobody but who watches."""
    site.file("public/large", os.urandom(8 << 20))
    with watching(site) as seen:
        for number in range(8):
            seen.until("site")
            saved = f"page {number}\n"
            save(site.root / "public/page.html", saved)
        argv = [sys.executable, "-m", "builder", "cat", "site", "/page.html", "--no-build"]
        environ = {**os.environ, "BUILDER_CACHE_DIR": str(site.store)}
        end = time.monotonic() + PATIENCE
        while True:
            told = subprocess.run(
                argv, cwd=site.root, env=environ, capture_output=True, text=True
            ).stdout
            if told == saved:
                break
            assert time.monotonic() < end, seen.lines
        assert seen.stop() == 130


def test_it_goes_with_no_shell(site: Project) -> None:
    made = site.run("build", "--watch", "--shell-on-failure", status=2)
    assert "--watch goes on after a failure" in made.stderr
