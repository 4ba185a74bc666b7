"""Every message of the language, with its place, on one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors

STEP = "from: scratch\nsteps:\n"

TABLE = [
    ("name: a\n", "1:1: missing key 'from' in a spec"),
    ("form: scratch\n", "1:1: unknown key 'form' in a spec, did you mean 'from'?"),
    ("from: scratch\nform: x\n", "2:1: unknown key 'form' in a spec"),
    ("from: scratch\nzzz: x\n", "2:1: unknown key 'zzz' in a spec"),
    ("from: 5.0\n", "1:7: '5.0' is a number, expected a base"),
    ("from: image:\n", "1:12: mapping values are not allowed in this context"),
    ("from: [a]\n", "1:7: found a list, expected a base"),
    ("from: Nginx/Foo\n", "1:7: 'Nginx/Foo' is not an image reference"),
    ("from: 'image:'\n", "1:7: 'image:' names no base, expected image:NAME"),
    ("from: image:A/b\n", "1:7: 'image:A/b' does not name a spec of this project"),
    ("from: debootstrap:--x\n", "1:7: 'debootstrap:--x' is not a suite"),
    ("from: {image: a}\n", "1:7: a base without 'debootstrap', expected text"),
    ("from: {debootstrap: a, variant: mini}\n", "1:33: 'mini' is not known here, expected one of"),
    ("from: {debootstrap: a, include: [-x]}\n", "1:34: '-x' is not a package name"),
    ("from: {debootstrap: a, mirror: x}\n", "1:32: 'x' is not a mirror, expected a URL"),
    ("from: scratch\nname: Site\n", "2:7: 'Site' is not an image name, expected lower-case"),
    ("from: scratch\ntags: [a@b]\n", "2:8: 'a@b' holds a digest, expected NAME[:TAG]"),
    ("from: scratch\ntags: [a:-]\n", "2:8: 'a:-' is not an image reference: the tag '-'"),
    ("from: scratch\nplatforms: [arm, arm/v7]\n", "2:12: platform 'linux/arm/v7' is there twice"),
    ("from: scratch\nplatforms: []\n", "2:12: the list is empty, expected a list of platforms"),
    ("from: scratch\nplatforms: [a/b/c/d]\n", "2:13: 'a/b/c/d' is not a platform"),
    ("from: scratch\nvars: [a]\n", "2:7: found a list, expected a mapping of names to values"),
    ("from: scratch\nvars: {a b: 1}\n", "2:8: 'a b' is not a variable name"),
    ("from: scratch\nvars: {env: 1}\n", "2:8: 'env' is a name that templates already have"),
    (
        "from: scratch\nvars: {v: 1.10}\n",
        "2:11: '1.10' is a number that would be written '1.1' in a template",
    ),
    (
        "from: scratch\nvars: {v: 0x10}\n",
        "2:11: '0x10' is a number that does not keep its digits in a template",
    ),
    ("from: scratch\nvars: {v: .nan}\n", "2:11: '.nan' is a number that does not keep its dig"),
    ("from: scratch\nvars: {v: -.inf}\n", "2:11: '-.inf' is a number that does not keep its"),
    ("from: scratch\nsteps: {run: a}\n", "2:8: found a mapping, expected a list of steps"),
    ("from: scratch\nsteps:\n", "2:7: found nothing, expected a list of steps"),
    (STEP + "- foo\n", "3:3: found 'foo', expected a step"),
    (STEP + "- name: x\n", "3:3: a step without a verb"),
    (STEP + "- cpoy: x\n", "3:3: unknown step 'cpoy', did you mean 'copy'?"),
    (STEP + "- run: x\n  copy: y\n", "4:3: 'run' and 'copy' in one step, expected one verb"),
    (STEP + "- run: x\n  mode: '0644'\n", "4:3: key 'mode' belongs to"),
    (
        STEP + "- remove: /x\n  mounts: [ssh]\n",
        "4:3: key 'mounts' belongs to 'run' and 'apt' and 'apk' and 'dnf' and 'pip' and 'npm', not",
    ),
    (
        STEP + "- {copy: a, dest: /b, strip_components: 1}\n",
        "3:23: key 'strip_components' belongs to 'unpack' and 'download', not to a 'copy' step",
    ),
    (STEP + "- run: x\n  netwrok: none\n", "4:3: unknown key 'netwrok' in a 'run' step, did you"),
    (STEP + "- run: x\n  network: bridge\n", "4:12: 'bridge' is not known here, expected one of"),
    (STEP + "- run: ' '\n", "3:8: ' ' is empty, expected text"),
    (STEP + "- run: []\n", "3:8: the list is empty, expected a command"),
    (STEP + "- run: [a, 1.5]\n", "3:12: '1.5' is a number, expected text"),
    (STEP + "- run: [a]\n  shell: [sh]\n", "4:10: 'shell' is given, but a list runs without"),
    (STEP + '- run: "a\\0b"\n', "3:8: 'a\\x00b' holds a NUL character"),
    (STEP + "- run: a\n  env: {A: true}\n", "4:12: 'true' is a truth value, expected text"),
    (STEP + "- run: a\n  env: {A: }\n", "4:12: nothing is given, expected text"),
    (STEP + "- run: a\n  env: {'A=': x}\n", "4:9: 'A=' is not a name of an environment variable"),
    (STEP + "- run: a\n  working_dir: a/../b\n", "4:16: 'a/../b' leaves the image through '..'"),
    (STEP + "- run: a\n  user: 'a:'\n", "4:9: 'a:' is not an owner, expected user[:group]"),
    (STEP + "- run: a\n  user: 4294967295\n", "4:9: '4294967295' is not an owner, expected num"),
    (STEP + "- copy: a\n", "3:3: missing key 'dest' in a 'copy' step"),
    (STEP + "- {copy: ../a, dest: /b}\n", "3:10: '../a' leaves the context, expected a path with"),
    (STEP + "- {copy: /a, dest: /b}\n", "3:10: '/a' is absolute, expected a path within the cont"),
    (STEP + "- {copy: '', dest: /b}\n", "3:10: '' is empty, expected a path"),
    (STEP + "- {copy: [], dest: /b}\n", "3:10: the list is empty, expected a path or a list"),
    (STEP + "- {copy: [a, b], dest: /b}\n", "3:24: 2 sources need a directory, '/b' is not one"),
    (STEP + "- {copy: '*.x', dest: /b}\n", "3:23: glob '*.x' needs a directory, '/b' is not one"),
    (STEP + "- {copy: a, dest: ../b}\n", "3:19: '../b' leaves the image through '..'"),
    (STEP + f"- {{copy: a, dest: /{'b' * 256}}}\n", "3:19: '/bbbb"),
    (STEP + "- {copy: a, dest: /b, mode: 755}\n", "3:29: '755' is a number, expected octal text"),
    (STEP + "- {copy: a, dest: /b, mode: 0888}\n", "3:29: '0888' is not octal, expected 3 or 4"),
    (STEP + "- {copy: a, dest: /b, mode: '0o755'}\n", "3:29: '0o755' is not a mode, expected oct"),
    (STEP + "- {copy: a, dest: /b, mode: u+y}\n", "3:29: 'u+y' is not a mode, expected octal tex"),
    (STEP + "- {copy: a, dest: /b, preserve: [times]}\n", "3:34: 'times' is not known here, expec"),
    (
        STEP + "- {copy: a, dest: /b, mode: '0644', preserve: [mode]}\n",
        "3:29: 'mode' is given and also preserved, expected one of the two",
    ),
    (STEP + "- {file: /a/, content: x}\n", "3:10: '/a/' ends in '/', expected the path of a file"),
    (STEP + "- {file: /a, content: 1.10}\n", "3:23: '1.10' is a number, expected text"),
    (STEP + "- {file: /a, content: [x]}\n", "3:23: found a list, expected text"),
    (STEP + "- {template: a/, dest: /b}\n", "3:14: 'a/' is a directory"),
    (STEP + "- {symlink: /a}\n", "3:3: missing key 'to' in a 'symlink' step"),
    (STEP + "- {symlink: /a, to: ''}\n", "3:21: '' is empty, expected text"),
    (STEP + "- {remove: /}\n", "3:12: '/' is the whole image, expected a path within it"),
    (STEP + "- {unpack: a, dest: /b, strip_components: -1}\n", "3:43: '-1' is not expected here,"),
    ("from: scratch\nconfig: x\n", "2:9: found 'x', expected a mapping of 'config'"),
    ("from: scratch\nconfig: {entrypiont: [a]}\n", "2:10: unknown key 'entrypiont' in 'config', d"),
    ("from: scratch\nconfig: {cmd: {a: b}}\n", "2:15: found a mapping, expected a list of words"),
    ("from: scratch\nconfig: {cmd: }\n", "2:15: found nothing, expected a list of words"),
    ("from: scratch\nconfig: {entrypoint: ''}\n", "2:22: '' is empty, expected text"),
    ("from: scratch\nconfig: {shell: []}\n", "2:17: the list is empty, expected a list of words"),
    ("from: scratch\nconfig: {working_dir: a}\n", "2:23: 'a' is relative, expected an absolute"),
    ("from: scratch\nconfig: {exposed_ports: [0]}\n", "2:26: '0' is not a port, expected 1 to"),
    ("from: scratch\nconfig: {exposed_ports: [80/x]}\n", "2:26: '80/x' is not a port"),
    ("from: scratch\nconfig: {exposed_ports: [1-65536]}\n", "2:26: '1-65536' is not a port, exp"),
    ("from: scratch\nconfig: {exposed_ports: [0-5]}\n", "2:26: '0-5' is not a port, expected 1"),
    ("from: scratch\nconfig: {exposed_ports: [90-80]}\n", "2:26: '90-80' ends before it starts"),
    (
        "from: scratch\nconfig: {exposed_ports: ['8080:80']}\n",
        "2:26: '8080:80' publishes a port, which is said where the image is run; expected the",
    ),
    ("from: scratch\nconfig: {volumes: [a]}\n", "2:20: 'a' is relative, expected an absolute"),
    ("from: scratch\nconfig: {stop_signal: TERM}\n", "2:23: 'TERM' is not a signal, expected a"),
    ("from: scratch\nconfig: {stop_signal: 65}\n", "2:23: '65' is not a signal, expected 1 to"),
    ("from: scratch\nconfig: {healthcheck: {}}\n", "2:23: missing key 'test' in a healthcheck"),
    (
        "from: scratch\nconfig: {healthcheck: {test: [curl, x]}}\n",
        "2:30: 'curl' does not say how to run the test, expected CMD, CMD-SHELL or NONE",
    ),
    (
        "from: scratch\nconfig: {healthcheck: {test: NONE, retries: 3}}\n",
        "2:36: 'retries' is given, but NONE says that there is no test",
    ),
    (
        "from: scratch\nconfig: {healthcheck: {test: CMD curl x}}\n",
        "2:30: 'CMD curl x' begins with CMD, expected the command alone",
    ),
    (
        "from: scratch\nconfig: {healthcheck: {test: a, interval: 30}}\n",
        "2:43: '30' is not a duration, expected one such as '30s', '1m30s' or '500ms'",
    ),
    (
        "from: scratch\nconfig: {healthcheck: {test: a, timeout: 1us}}\n",
        "2:42: '1us' is too short, expected at least '1ms'",
    ),
    (
        "from: scratch\nconfig: {healthcheck: {test: a, retries: x}}\n",
        "2:42: 'x' is not expected here, expected a whole number from 0 to 1000",
    ),
]


@pytest.mark.parametrize(("text", "message"), TABLE, ids=[message for _, message in TABLE])
def test_a_mistake_is_named_with_its_place(
    text: str, message: str, wrong: Callable[..., list[str]]
) -> None:
    (found,) = wrong(text)
    assert found.startswith(f"s.yaml:{message}")


def test_all_mistakes_are_told_at_once_by_place(wrong: Callable[..., list[str]]) -> None:
    found = wrong(
        "from: scratch\n"
        "steps:\n"
        "  - {copy: a, dest: /b, mode: 755}\n"
        "  - run: echo {{ titel }}\n"
        "    netwrok: none\n"
        "config: {user: 1, user: 2, stop_signal: X}\n"
        "vars: {title: 1.10}\n"
    )
    assert [each.split(": ")[0] for each in found] == [
        "s.yaml:3:31",
        "s.yaml:4:18",
        "s.yaml:5:5",
        "s.yaml:6:19",
        "s.yaml:6:41",
        "s.yaml:7:15",
    ]


FETCH = "a step `download` fetches a file, a step `git` what a repository has at a commit"
RAW = "text that is no template goes between {% raw %} and {% endraw %}"
HINTS: list[tuple[str, str | None]] = [
    ("from: scratch\nvars: {v: 1.10}\n", "quote it: '1.10'"),
    (STEP + "- {copy: a, dest: /b, mode: 755}\n", "quote it: '0755'"),
    (STEP + "- {copy: a, dest: /b, mode: '0o755'}\n", "write '0755'"),
    (STEP + "- {copy: [a, b], dest: /b}\n", "write /b/"),
    (STEP + "- {copy: /a, dest: /b}\n", "paths are relative to the context folder: write a"),
    ("from: scratch\nconfig: {stop_signal: TERM}\n", "write SIGTERM"),
    (
        "from: scratch\nconfig: {healthcheck: {test: a, interval: 30}}\n",
        "write 30s",
    ),
    ("from: scratch\nconfig: {healthcheck: {test: CMD-SHELL a b}}\n", 'write "a b"'),
    ("from: scratch\nconfig: {exposed_ports: ['127.0.0.1:80:53/UDP']}\n", "write 53/udp"),
    ("from: scratch\nconfig: {exposed_ports: ['8000-8010:9000-9010']}\n", "write 9000-9010"),
    ("from: scratch\nconfig: {exposed_ports: [90-80/udp]}\n", "write 80-90/udp"),
    ("from: scratch\nconfig: {exposed_ports: ['a:b']}\n", None),
    ("from: scratch\nconfig: {shell: bash}\n", "write [bash, -c]"),
    ("from: scratch\nconfig: {exposed_ports: '80, 443/tcp'}\n", "write [80, 443/tcp]"),
    ("from: scratch\nconfig: {exposed_ports: http}\n", None),
    ("from: scratch\nsteps: foo\n", None),
    (STEP + "- {copy: a, dest: /b, mode: 999}\n", None),
    (STEP + "- {copy: a, dest: /b, owner: }\n", None),
    (STEP + "- {copy: 'https://h/x', dest: /b}\n", FETCH),
    (STEP + "- {unpack: 'ftp://h/x.tar', dest: /b}\n", FETCH),
    (STEP + "- {copy: 'git@h:x/y', dest: /b}\n", FETCH),
    (STEP + "- run: echo ${#x}\n", RAW),
    (STEP + "- run: docker inspect -f '{{.Dir}}' x\n", RAW),
    (STEP + "- run: date +'{%Y}'\n", RAW),
    ("from: Nginx/Foo:V1\n", "write nginx/foo:V1"),
    ("from: h.io/Nginx/Foo:V1\n", "write h.io/nginx/foo:V1"),
    ("from: docker://h.io/nginx\n", "leave the scheme out: write h.io/nginx"),
    ("from: image:specs/Web.yaml\n", "a spec goes by its file name without .yaml: write image:web"),
    ("from: {image: a}\n", "write image:a"),
    ("from: image:\n", "quote a text that holds ': ' or ends in ':'"),
    (
        "from: scratch\nzzz: 1\n",
        "known here: from, name, extends, vars, matrix, when, stages, context, config, steps, tags,"
        " platforms, tests",
    ),
]


@pytest.mark.parametrize(("text", "hint"), HINTS, ids=[text for text, _ in HINTS])
def test_a_hint_says_what_to_write(
    text: str, hint: str | None, read: Callable[..., object]
) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(text)
    assert caught.value.errors[0].hint == hint


def test_the_file_has_to_be_named_like_an_image(tmp_path: Path) -> None:
    (tmp_path / "My Site.yaml").write_text("from: scratch\n")
    with pytest.raises(SpecErrors, match=r"My Site.yaml:1:1: 'My Site' is not an image name"):
        load_spec(str(tmp_path / "My Site.yaml"), environ={})
