"""`.dockerignore` beside the engine's: which paths of a context reach an image."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

CONTEXT: dict[str, str] = {
    "a.txt": "",
    "b.md": "",
    "README.md": "",
    "dir/a.txt": "",
    "dir/b.md": "",
    "dir/sub/a.txt": "",
    "dir/sub/deep/b.md": "",
    "other/a.txt": "",
    "other/keep/a.txt": "",
    "other/keep/b.md": "",
    "node_modules/x/index.js": "",
    "dir/node_modules/y/index.js": "",
    ".git/config": "",
    ".hidden": "",
    "temp": "",
    "tempa": "",
    "temp1/x": "",
    "empty/": "",
}

RULES = {
    "nothing": "",
    "comments and blank lines": "# a.txt\n\n  \n#\nb.md\n",
    "a name at the top only": "a.txt\n",
    "a name anywhere": "**/a.txt\n",
    "a leading slash": "/dir/a.txt\n",
    "a trailing slash": "dir/\n",
    "dots": "./dir/../other/\n",
    "one star": "*/a.txt\n",
    "two stars between": "dir/**/b.md\n",
    "two stars at the end": "dir/**\n",
    "a question mark": "temp?\n",
    "a class": "[ab].*\n",
    "white space": "   a.txt   \n\tb.md\n",
    "all but one": "*\n!dir/sub/a.txt\n",
    "all but a directory": "*\n!other/keep\n",
    "all markdown but one": "**/*.md\n!README.md\n",
    "the last line counts": "!README.md\n**/*.md\n",
    "out, in, out again": "other\n!other/keep\nother/keep/b.md\n",
    "directories anywhere": "**/node_modules\n.git\n",
    "hidden files": ".*\n",
    "an escaped star": "\\*.txt\n",
    "everything": "*\n",
    "everything, two stars": "**\n",
    "itself": ".dockerignore\n",
    "a byte order mark": "\ufeffa.txt\n",
    "negated with a space": "*.md\n! README.md\n",
}


def ours(sides: Any, context: Path, cache: Path) -> set[str]:
    """The names in the one layer of `copy: .`."""
    spec = {"from": "scratch", "steps": [{"copy": ".", "dest": "/to/"}]}
    done = sides.ours(spec, context, cache)
    assert done.returncode == 0, done.stderr
    layers, _ = sides.built(cache)
    names: set[str] = set()
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
            names |= set(tar.getnames())
    return names


@pytest.mark.root
@pytest.mark.needs("dockerd")
@pytest.mark.parametrize("name", RULES)
def test_ignores_as_docker_does(sides: Any, tmp_path: Path, name: str) -> None:
    context = tmp_path / "context"
    sides.make_tree(context, CONTEXT)
    (context / ".dockerignore").write_text(RULES[name])
    wrong = sides.build("FROM scratch\nCOPY . /to/\n", context, "parity:ignore", buildkit=True)
    assert not wrong
    theirs = {path for path in sides.tree("parity:ignore") if path.startswith("to/")}
    assert ours(sides, context, tmp_path / "cache") - {"to"} == theirs
