"""Words of Dockerfiles, Compose and others, at every place: what a hint says is done, and the spec
then loads."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.errors import SpecError, SpecErrors
from builder.spec import words
from builder.spec.load import load_spec
from builder.steps import VERBS

FULL = os.environ.get("RELIABILITY") == "full"  # else every twentieth
MOVES = re.compile(r"(at the top|under 'config'|as a step|in its place): (?=\S)")

TOP = "from: scratch\n"
CONFIG = "from: scratch\nconfig:\n  "
STEP = "from: scratch\nsteps:\n- "
RUN = STEP + "run: make\n  "
MOUNT = RUN + "mounts:\n  - "
COPY = STEP + "copy: a\n  dest: /b\n  "
CHECK = "from: scratch\nconfig:\n  healthcheck:\n    "
TABLE: list[tuple[str, str, str]] = [
    # the top
    ("", "FROM: debian:12", "did you mean 'from'?"),
    ("", "image: debian:12", "did you mean 'from'?"),
    ("", "base: image:web", "did you mean 'from'?"),
    (TOP, "args: {A: 1}", "did you mean 'vars'?"),
    (TOP, "ARG: {A: 1}", "did you mean 'vars'?"),
    (TOP, "variables: {A: 1}", "did you mean 'vars'?"),
    (TOP, "tag: app:1", "did you mean 'tags'?"),
    (TOP, "platform: linux/arm64", "in its place: platforms: [linux/arm64]"),
    (TOP, "container_name: web", "did you mean 'name'?"),
    (TOP, "layers: [{run: a}]", "did you mean 'steps'?"),
    (TOP, "workdir: /app", "under 'config': working_dir: /app"),
    (TOP, "working_dir: /app", "under 'config': working_dir: /app"),
    (TOP, "WORKDIR: /app", "under 'config': working_dir: /app"),
    (TOP, "user: www-data", "under 'config': user: www-data"),
    (TOP, "USER: 1000", "under 'config': user: 1000"),
    (TOP, "env: {A: b}", "under 'config': env: {A: b}"),
    (TOP, "ENV: A=b C=d", "under 'config': env: {A: b, C: d}"),
    (TOP, "environment: [A=b, 'C=d e']", "under 'config': env: {A: b, C: \"d e\"}"),
    (TOP, "cmd: nginx -g x", "under 'config': cmd: \"nginx -g x\""),
    (TOP, "CMD: [nginx, -g]", "under 'config': cmd: [nginx, -g]"),
    (TOP, "command: [nginx, -g]", "under 'config': cmd: [nginx, -g]"),
    (TOP, "entrypoint: [/app]", "under 'config': entrypoint: [/app]"),
    (TOP, "ENTRYPOINT: /app", "under 'config': entrypoint: /app"),
    (TOP, "shell: [/bin/bash, -c]", "under 'config': shell: [/bin/bash, -c]"),
    (TOP, "expose: 80", "under 'config': exposed_ports: [80]"),
    (TOP, "EXPOSE: 80 53/udp", "under 'config': exposed_ports: [80, 53/udp]"),
    (TOP, "ports: ['8080:80', '127.0.0.1:53:53/udp']", "under 'config': exposed_ports: [80, 53/u"),
    (TOP, "volumes: ['./data:/data:ro', /cache]", "under 'config': volumes: [/data, /cache]"),
    (TOP, "VOLUME: /data", "under 'config': volumes: [/data]"),
    (TOP, "labels: [a=b]", "under 'config': labels: {a: b}"),
    (TOP, "LABEL: a=b", "under 'config': labels: {a: b}"),
    (TOP, "stop_signal: SIGINT", "under 'config': stop_signal: SIGINT"),
    (TOP, "STOPSIGNAL: SIGINT", "under 'config': stop_signal: SIGINT"),
    (TOP, "healthcheck: {test: a}", "under 'config': healthcheck: {test: a}"),
    (TOP, "HEALTHCHECK: curl x", "under 'config': healthcheck: {test: \"curl x\"}"),
    (TOP, "RUN: make", "as a step: - run: make"),
    (TOP, "run: [make, all]", "as a step: - run: [make, all]"),
    (TOP, "script: make", "as a step: - run: make"),
    (TOP, "COPY: a b /c/", "as a step: - {copy: [a, b], dest: /c/}"),
    (TOP, "copy: a", "a step says it: - {copy: ..., dest: ...}"),
    (TOP, "ADD: a /b", "as a step: - {copy: [a], dest: /b}"),
    (TOP, "mkdir: /a", "as a step: - directory: /a"),
    (TOP, "services: {a: b}", "a file is one image"),
    (TOP, "build: .", "the whole spec says what is built"),
    (TOP, "dockerfile: Dockerfile", "a spec takes its place"),
    (TOP, "depends_on: [db]", "`from: image:NAME` stands on another spec"),
    (TOP, "restart: always", "it is said where an image is run"),
    (TOP, "networks: [a]", "it is said where an image is run"),
    (TOP, "ONBUILD: RUN a", "said by the spec that stands on it"),
    (TOP, "MAINTAINER: me", "org.opencontainers.image.authors"),
    (TOP, "secrets: {a: {file: b}}", "--secret or builder.yaml who gives them"),
    (TOP, "version: '3'", "org.opencontainers.image.version"),
    # config
    (CONFIG, "CMD: [a]", "did you mean 'cmd'?"),
    (CONFIG, "Cmd: [a]", "did you mean 'cmd'?"),
    (CONFIG, "command: a b", "did you mean 'cmd'?"),
    (CONFIG, "ENTRYPOINT: [a]", "did you mean 'entrypoint'?"),
    (CONFIG, "environment: {A: b}", "did you mean 'env'?"),
    (CONFIG, "ENV: [A=b]", "in its place: env: {A: b}"),
    (CONFIG, "workdir: /a", "did you mean 'working_dir'?"),
    (CONFIG, "WorkingDir: /a", "did you mean 'working_dir'?"),
    (CONFIG, "expose: [80]", "did you mean 'exposed_ports'?"),
    (CONFIG, "ports: ['8080:80']", "in its place: exposed_ports: [80]"),
    (CONFIG, "ExposedPorts: 80", "in its place: exposed_ports: [80]"),
    (CONFIG, "volume: /a", "in its place: volumes: [/a]"),
    (CONFIG, "label: {a: b}", "did you mean 'labels'?"),
    (CONFIG, "StopSignal: SIGINT", "did you mean 'stop_signal'?"),
    (CONFIG, "HEALTHCHECK: a", "in its place: healthcheck: {test: a}"),
    (CONFIG, "tags: [a]", "at the top: tags: [a]"),
    (CONFIG, "vars: {A: b}", "at the top: vars: {A: b}"),
    (CONFIG, "run: make", "as a step: - run: make"),
    (CONFIG, "platform: linux/arm64", "at the top: platforms: [linux/arm64]"),
    (CONFIG, "env: [A=b]", "write {A: b}"),
    (CONFIG, "labels: a=b", "write {a: b}"),
    (CHECK, "cmd: a", "did you mean 'test'?"),
    (CHECK + "test: a\n    ", "every: 3s", "did you mean 'interval'?"),
    # steps
    (STEP, "sh: make", "did you mean 'run'?"),
    (STEP, "shell: make", "did you mean 'run'?"),
    (STEP, "script: make", "did you mean 'run'?"),
    (STEP, "exec: [a, b]", "did you mean 'run'?"),
    (STEP, "RUN: make", "did you mean 'run'?"),
    (STEP, "command: make", "did you mean 'run'?"),
    (STEP, "COPY: a /b", "as a step: - {copy: [a], dest: /b}"),
    (STEP, "COPY: a", "did you mean 'copy'?"),
    (STEP, "add: a", "did you mean 'copy'?"),
    (STEP, "mkdir: /a", "did you mean 'directory'?"),
    (STEP, "rm: /a", "did you mean 'remove'?"),
    (STEP, "untar: a.tar", "did you mean 'unpack'?"),
    (STEP, "env: {A: b}", "as a step: - set: {env: {A: b}}"),
    (STEP, "ENV: A=b", "as a step: - set: {env: {A: b}}"),
    (STEP, "workdir: a", "as a step: - set: {working_dir: a}"),
    (STEP, "user: app", "as a step: - set: {user: app}"),
    (STEP, "label: [a=b]", "under 'config': labels: {a: b}"),
    (STEP, "cmd: [a]", "under 'config': cmd: [a]"),
    (STEP, "expose: 80", "under 'config': exposed_ports: [80]"),
    (STEP, "arg: {A: b}", "at the top: vars: {A: b}"),
    (STEP, "tag: a:1", "at the top: tags: a:1"),
    (STEP, "RUN make all", 'as a step: - run: "make all"'),
    (STEP, "COPY a b /c/", "as a step: - {copy: [a, b], dest: /c/}"),
    (STEP, "COPY --from=build --chown=a:b /x /y/ /c/", "dest: /c/, from: stage:build, owner: a:b}"),
    (STEP, "COPY --from=build /x /c/", "as a step: - {copy: [/x], dest: /c/, from: stage:build}"),
    (STEP, "COPY --from=nginx:1.25 /x /c", "- {copy: [/x], dest: /c, from: nginx:1.25}"),
    (STEP, "COPY --chmod=755 x /c", "as a step: - {copy: [x], dest: /c, mode: 0755}"),
    (STEP, "ADD --link x /c", "a step says it: - {copy: ..., dest: ...}"),
    (
        STEP,
        "RUN --mount=type=cache,target=/x make",
        "{run: make, mounts: [{cache: x, target: /x}]}",
    ),
    (
        STEP,
        "RUN: --mount=type=ssh --network=none make",
        "{run: make, network: none, mounts: [ssh]}",
    ),
    (STEP, "run: --mount=type=secret,id=a cat x", '- {run: "cat x", mounts: [{secret: a}]}'),
    (STEP, "run: --mount=type=tmpfs,dst=/t --mount=type=ssh a", "mounts: [{tmpfs: /t}, ssh]}"),
    (STEP, "run: --network=host make", "as a step: - {run: make, network: host}"),
    (STEP, "RUN --security=insecure make", "a step says it: - {run: ...}"),
    (STEP, "ENV A=b C=d", "as a step: - set: {env: {A: b, C: d}}"),
    (STEP, "WORKDIR /a", "as a step: - set: {working_dir: /a}"),
    (STEP, "USER app", "as a step: - set: {user: app}"),
    (STEP, 'SHELL: ["/bin/bash", "-c"]', "as a step: - set: {shell: [/bin/bash, -c]}"),
    (STEP + "set:\n    user: a\n    ", "workdir: /a", "did you mean 'working_dir'?"),
    (STEP + "set:\n    user: a\n    ", "cmd: [a]", "under 'config': cmd: [a]"),
    (STEP, "EXPOSE 80 443", "under 'config': exposed_ports: [80, 443]"),
    (STEP, "copy: {src: a, dest: /b, chown: root}", "- {copy: a, dest: /b, owner: root}"),
    (STEP, "file: {path: /a, text: x}", "as a step: - {file: /a, content: x}"),
    (STEP, "run: {cmd: make, chdir: /a}", "as a step: - {run: make, working_dir: /a}"),
    (STEP, "symlink: {path: /a, target: b}", "as a step: - {symlink: /a, to: b}"),
    (STEP, "unpack: {src: a.tar, dest: /b}", "as a step: - {unpack: a.tar, dest: /b}"),
    (STEP, "directory: {path: /a, perms: u=rwx}", "as a step: - {directory: /a, mode:"),
    (STEP, "copy: {a: b}", "expected the options of the step beside it"),
    (STEP, "excludes: x", "a step without a verb"),
    # options of a step
    (RUN, "workdir: /a", "did you mean 'working_dir'?"),
    (RUN, "cwd: /a", "did you mean 'working_dir'?"),
    (RUN, "environment: {A: b}", "did you mean 'env'?"),
    (RUN, "environment: [A=b]", "in its place: env: {A: b}"),
    (RUN, "secrets: [a, b]", "in its place: mounts: [{secret: a}, {secret: b}]"),
    (RUN, "secret: a", "in its place: mounts: [{secret: a}]"),
    (RUN, "ssh: default", "in its place: mounts: [{ssh: default}]"),
    (MOUNT + "cache: a\n    ", "dst: /a", "did you mean 'target'?"),
    (MOUNT + "cache: a\n    target: /a\n    ", "uid: 1000", "did you mean 'owner'?"),
    (MOUNT + "secret: a\n    ", "dst: /a", "did you mean 'target'?"),
    (RUN, "become: root", "did you mean 'user'?"),
    (RUN, "labels: {a: b}", "under 'config': labels: {a: b}"),
    (COPY, "chown: root", "did you mean 'owner'?"),
    (COPY, "user: root", "did you mean 'owner'?"),
    (COPY, "chmod: '0644'", "did you mean 'mode'?"),
    (COPY, "ignore: [a]", "did you mean 'exclude'?"),
    (STEP + "copy: a\n  ", "to: /b", "did you mean 'dest'?"),
    (STEP + "copy: a\n  ", "dst: /b", "did you mean 'dest'?"),
    (STEP + "symlink: /a\n  ", "target: b", "did you mean 'to'?"),
    (STEP + "file: /a\n  ", "text: b", "did you mean 'content'?"),
]


def faults(path: Path, text: str) -> tuple[SpecError, ...]:
    path.write_text(text)
    try:
        load_spec(str(path), verbs=VERBS, environ={})
    except SpecErrors as found:
        return found.errors
    return ()


def followed(text: str, error: SpecError) -> Any:
    """The spec with what stands at the error's place moved or renamed, as the error says."""
    assert error.place is not None
    root = yaml.compose(text, yaml.CSafeLoader)
    at = (error.place.line - 1, error.place.column - 1)

    def holders(node: yaml.Node) -> Iterator[tuple[list[Any], Any]]:
        for child in node.value if not isinstance(node, yaml.ScalarNode) else ():
            key = child[0] if isinstance(child, tuple) else child
            value = child[1] if isinstance(child, tuple) else child
            value_is_meant = isinstance(child, tuple) and (error.hint or "").startswith("write ")
            mark = (value if value_is_meant else key).start_mark
            if (mark.line, mark.column) == at and (isinstance(child, (tuple, yaml.ScalarNode))):
                yield node.value, child
            yield from holders(value)

    (holder, child) = next(holders(root))
    move = MOVES.match(error.hint or "")
    proposed: Any = None
    if near := re.search(r"did you mean '(.*)'\?$", error.what):
        child[0].value, child[0].tag = near[1], "tag:yaml.org,2002:str"
    elif value := re.match("write (.*)$", error.hint or ""):
        holder[holder.index(child)] = (child[0], yaml.compose(value[1], yaml.CSafeLoader))
    else:
        assert move, error.hint
        # in YAML 1.1, which this reads, 0755 is a number
        line = re.sub(r"mode: (0\d+)", r"mode: '\1'", (error.hint or "")[move.end() :])
        proposed = yaml.safe_load(line)
        holder.remove(child)
    data = yaml.CSafeLoader("")
    made = data.construct_document(root)
    assert isinstance(made, dict)
    if proposed is None:
        return made
    match move and move[1]:
        case "at the top":
            made.update(proposed)
        case "under 'config'":
            made["config"] = {**(made.get("config") or {}), **proposed}
        case "as a step":
            made["steps"] = [*(made.get("steps") or []), *proposed]
        case _:
            inner = made["steps"][0] if "steps" in made else made.get("config", made)
            inner = inner.get("set", inner)
            inner.update(proposed)
    made["steps"] = [each for each in made.get("steps") or [] if each]
    return made


@pytest.mark.parametrize(("place", "line", "says"), TABLE, ids=[p + t for p, t, _ in TABLE])
def test_a_word_of_another_language_is_told_in_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, line: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("s.yaml")
    # what lacks a key beside (`to` for `dest`) is told of that, too
    error = next(each for each in faults(path, f"{place}{line}\n") if "missing" not in each.what)
    told = f"{error.what}\n{error.hint}"
    assert says in told, told
    if not MOVES.match(error.hint or "") and "did you mean" not in told and "write " not in told:
        return
    made = followed(f"{place}{line}\n", error)
    # a stage that is named is to be written
    made.update({"stages": {"build": {"from": "scratch"}}} if "stage:build" in told else {})
    after = faults(path, yaml.safe_dump(made))
    assert all(each.what.startswith("missing key") for each in after), (made, after)


def generated() -> Iterator[str]:
    names = [*words._SPEC, *words._CONFIG, *words._VERB, *words._OPTION, *words._TEST, *words._NONE]
    values = ("x", "/x", "80", "a b /c", "A=b", "[A=b, C=d]", "['80:90']", "{A: b}", "[x, y]",
              "[{run: x}]", "30s", "'a: b'", "{test: x}", "[/x, 'a:/y:r']", "a/b")  # fmt: skip
    places = (TOP, CONFIG, STEP, RUN, COPY, CHECK + "test: x\n    ",
              STEP + "symlink: /a\n  to: b\n  ", STEP + "unpack: a\n  dest: b\n  ")  # fmt: skip
    for name in dict.fromkeys(names):
        for spelled in dict.fromkeys((name, name.upper(), name.title())):
            for value in values:
                yield from (f"{place}{spelled}: {value}\n" for place in places)


def test_every_word_at_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("s.yaml")
    texts = list(dict.fromkeys(generated()))[:: 1 if FULL else 20]
    moved = 0
    wrong: list[object] = []
    for text in texts:
        for error in faults(path, text):
            if not MOVES.match(error.hint or "") and "did you mean" not in error.what:
                continue
            moved += 1
            made = followed(text, error)
            after = faults(path, yaml.safe_dump(made))
            if any("missing key" not in each.what for each in after):
                wrong.append((text, error.what, error.hint, made, after))
    print(len(texts), "words at places,", moved, "hints followed,", len(wrong), "wrong")
    for each in wrong[:20]:
        print(each)
    assert not wrong and moved > len(texts) / 10


def test_a_word_that_is_known_already_is_not_in_its_own_way(read: Callable[..., Any]) -> None:
    """What the tables hold are words for fields that exist."""
    tables = {
        "spec": (words._SPEC, words._spec_table()),
        "config": (words._CONFIG, words._config_table()),
    }
    for name, (found, table) in tables.items():
        for word, meant in found.items():
            assert set(meant) <= set(table), (name, word)
    verbs = {name for names in words._VERB.values() for name in names}
    assert verbs <= set(VERBS)
    options = {name for names in words._OPTION.values() for name in names}
    assert options <= {name for verb in VERBS.values() for name in verb.fields()}
