"""`builder search --registry`: a real registry's catalogue and tags."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.oci.image import empty_image, host_platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

pytestmark = pytest.mark.needs("docker-registry")


@pytest.fixture
def filled(registry: str, tmp_path: Path) -> str:
    names = ("team/web:1.24", "team/web:1.25", "team/web:edge", "other/webshop:2", "other/db:1")
    references = [parse_reference(f"{registry}/{name}") for name in names]
    with Registry(Settings()) as session:
        push_all(
            session,
            Store(str(tmp_path / "s")),
            [Push(empty_image(host_platform()), tuple(references))],
        )
    return registry


def search(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", "search", *args], capture_output=True, text=True
    )


def found(registry: str, term: str) -> dict[str, Any]:
    done = search(term, "--registry", registry, "--json")
    assert done.returncode == 0, done.stderr
    documents = json.loads(done.stdout)["repositories"]
    return {each["name"].removeprefix(f"{registry}/"): each["tags"] for each in documents}


def test_a_term_finds_repositories_and_narrows_tags(filled: str) -> None:
    web = ["1.24", "1.25", "edge"]
    assert found(filled, "web") == {"other/webshop": ["2"], "team/web": web}
    assert found(filled, "TEAM") == {"team/web": web}
    assert found(filled, "web:1.2") == {"team/web": ["1.24", "1.25"]}
    assert found(filled, "nothing") == {}


def test_it_prints_a_table(filled: str) -> None:
    lines = search("db", "--registry", filled).stdout.splitlines()
    assert [line.split() for line in lines] == [["REPOSITORY", "TAGS"], [f"{filled}/other/db", "1"]]


def test_a_registry_that_is_not_there_is_an_error_of_one_line() -> None:
    done = search("web", "--registry", "localhost:1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
