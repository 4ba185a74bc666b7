"""What a build that has nothing to do imports: start-up is most of its time, and a careless import
is seen by nobody. A module that has to be there is written into tests/golden/noop-imports.txt."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests/golden/noop-imports.txt"
SPEC = """\
from: scratch
steps:
- {name: page, copy: page, dest: /srv/}
- {file: /etc/motd, content: "{{ text }}"}
vars: {text: hello}
config: {cmd: [sh]}
"""


def imported(*arguments: str, **where: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        cwd=where.get("cwd"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "BUILDER_CACHE_DIR": where.get("store", "")},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines[1:]}
    return {name for name in names if not name.startswith("_")}


def test_a_build_with_nothing_to_do_imports_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/site.yaml").write_text(SPEC)
    (tmp_path / "page").write_text("content\n")
    time.sleep(2.1)  # what is young is looked at again, by more modules
    where = {"cwd": str(tmp_path), "store": str(tmp_path / "store")}
    build = ("-m", "builder", "build", "site")
    first = imported(*build, **where)
    assert "yaml" in first  # which a spec that is known does without
    found = imported(*build, **where) - imported("-c", "")
    written = set(GOLDEN.read_text().split())
    ours = {name for name in written if name.partition(".")[0] == "builder"}
    assert {name for name in found if name.partition(".")[0] == "builder"} == ours
    others = {name.partition(".")[0] for name in found} - {"builder"}
    assert others <= written - ours  # another Python may need fewer
