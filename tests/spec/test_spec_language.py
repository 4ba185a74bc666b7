"""What each part of a spec means, as the value that it becomes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from builder.oci.image import Platform
from builder.spec.model import BaseRef, ConfigChange, Healthcheck, ImageSpec, Place
from builder.steps.copy import Copy
from builder.steps.directory import Directory
from builder.steps.file import File
from builder.steps.remove import Remove
from builder.steps.run import Run
from builder.steps.symlink import Symlink
from builder.steps.template import Template
from builder.steps.unpack import Unpack

Read = Callable[..., ImageSpec]
AT = Place("s.yaml", 0, 0)

STEPS = [
    ("{copy: a, dest: /b}", Copy(AT, None, ("a",), "/b")),
    ("{copy: a/, dest: /b/}", Copy(AT, None, ("a/",), "/b/")),
    ("{copy: ./a//b/., dest: /b}", Copy(AT, None, ("a/b",), "/b")),
    ("{copy: ., dest: /}", Copy(AT, None, (".",), "/")),
    ("{copy: [a, 'c/*.x'], dest: /b/}", Copy(AT, None, ("a", "c/*.x"), "/b/")),
    ("{copy: a, dest: b/c}", Copy(AT, None, ("a",), "b/c")),
    ("{copy: a, dest: .}", Copy(AT, None, ("a",), "./")),
    (
        "{copy: a, dest: /b, name: n, exclude: '*.map', owner: 'www-data:0', mode: 'u=rwX,go=rX',"
        " preserve: [xattrs, mtime]}",
        Copy(
            *(AT, "n", ("a",), "/b", ("*.map",), "www-data:0", "u=rwX,go=rX", ("mtime", "xattrs"))
        ),
    ),
    (
        "{copy: a, dest: /b, mode: 0644, owner: 1000}",
        Copy(AT, None, ("a",), "/b", (), "1000", "0644"),
    ),
    ("{file: /a, content: hi}", File(AT, None, "/a", "hi")),
    ("{file: a, content: 5, mode: '600'}", File(AT, None, "a", "5", mode="600")),
    ("{file: /a, content: ''}", File(AT, None, "/a", "")),
    ("{template: t.j2, dest: /a}", Template(AT, None, "/a", "t.j2", {"v": "x"})),
    (
        "{template: d/nginx.conf.j2, dest: /etc/, vars: {v: 2, w: '{{ v }}'}}",
        Template(AT, None, "/etc/nginx.conf", "d/nginx.conf.j2", {"v": 2, "w": "x"}),
    ),
    ("{directory: /a/, owner: a, mode: '1777'}", Directory(AT, None, "/a", "a", "1777")),
    ("{symlink: /a, to: ../b, owner: a}", Symlink(AT, None, "/a", "../b", "a")),
    ("{remove: /a/}", Remove(AT, None, ("/a",))),
    ("{remove: [/a, b]}", Remove(AT, None, ("/a", "b"))),
    ("{unpack: a.tar, dest: /b/}", Unpack(AT, None, ("a.tar",), "/b")),
    (
        "{unpack: a.tar, dest: /b, strip_components: '{{ 1 + 1 }}', owner: a}",
        Unpack(AT, None, ("a.tar",), "/b", 2, "a"),
    ),
    ("{run: echo hi}", Run(AT, None, "echo hi")),
    (
        "{run: [echo, 'a b', 3], env: {A: 1, B: ''}, user: a, working_dir: x, network: none}",
        Run(AT, None, ("echo", "a b", "3"), {"A": "1", "B": ""}, "a", "x", None, "none"),
    ),
    ("{run: x, shell: [/bin/bash, -c]}", Run(AT, None, "x", shell=("/bin/bash", "-c"))),
]


@pytest.mark.parametrize(("step", "value"), STEPS)
def test_a_step_becomes(step: str, value: Copy, read: Read) -> None:
    spec = read(f"from: scratch\nvars: {{v: x}}\nconfig: {{working_dir: /srv}}\nsteps: [{step}]\n")
    (found,) = spec.steps
    if isinstance(found, Template):
        assert found.variables["target"] == found.variables["host"]
        own = {k: v for k, v in found.variables.items() if k not in ("host", "target", "spec")}
        found = found._replace(variables=own)
    assert found._replace(place=AT) == value


BASES = [
    ("scratch", "scratch", ""),
    ("image:base", "image", "base"),
    ("oci:dir/layout:tag", "oci", "dir/layout:tag"),
    ("docker-archive:../a.tar", "docker-archive", "../a.tar"),
    ("rootfs:/abs/r.tar.gz", "rootfs", "/abs/r.tar.gz"),
    ("debootstrap:bookworm", "debootstrap", "bookworm"),
    ("docker-daemon:nginx:1.25", "docker-daemon", "nginx:1.25"),
    ("nginx", "registry", "nginx"),
    ("nginx:1.25", "registry", "nginx:1.25"),
    ("localhost:5000/a/b:c", "registry", "localhost:5000/a/b:c"),
    (f"nginx@sha256:{'a' * 64}", "registry", f"nginx@sha256:{'a' * 64}"),
]


@pytest.mark.parametrize(("text", "kind", "value"), BASES)
def test_a_base_is(text: str, kind: str, value: str, read: Read) -> None:
    assert read(f"from: {text}\n").base == BaseRef(kind, value, Place("s.yaml", 1, 7))


def test_debootstrap_as_a_mapping_has_options(read: Read) -> None:
    base = read(
        "from:\n  debootstrap: bookworm\n  variant: minbase\n  include: [curl, g++, a:amd64]\n"
        "  mirror: http://mirror.example/debian\n"
    ).base
    assert (base.kind, base.value) == ("debootstrap", "bookworm")
    assert base.options == {
        "variant": "minbase",
        "include": ("curl", "g++", "a:amd64"),
        "mirror": "http://mirror.example/debian",
    }


def test_the_whole_config(read: Read) -> None:
    spec = read(
        """
from: scratch
config:
  env: {PORT: "80", DEBUG: 1}
  user: www-data:adm
  working_dir: /srv/
  entrypoint: [nginx]
  cmd: []
  shell: [/bin/bash, -c]
  exposed_ports: [80, 53/udp]
  volumes: [/var/cache//site/]
  labels: {org.opencontainers.image.title: "{{ spec.name }}"}
  stop_signal: SIGRTMIN+3
  healthcheck: {test: curl -f http://localhost/, interval: 1m30s, timeout: 1.5s, retries: 3}
"""
    )
    assert spec.config == ConfigChange(
        {"PORT": "80", "DEBUG": "1"},
        "www-data:adm",
        "/srv",
        ("nginx",),
        (),
        ("/bin/bash", "-c"),
        ("53/udp", "80/tcp"),
        ("/var/cache/site",),
        {"org.opencontainers.image.title": "s"},
        "SIGRTMIN+3",
        Healthcheck(
            ("CMD-SHELL", "curl -f http://localhost/"), 90_000_000_000, 1_500_000_000, 0, 3
        ),
    )


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1ms", 10**6),
        ("30s", 30 * 10**9),
        ("1h2m3.5s", 3_723_500_000_000),
        ("1500us", 1_500_000),
        ("1500µs", 1_500_000),
    ],
)
def test_durations_are_gos(text: str, nanoseconds: int, read: Read) -> None:
    spec = read(f"from: scratch\nconfig: {{healthcheck: {{test: a, interval: {text}}}}}\n")
    assert spec.config.healthcheck == Healthcheck(("CMD-SHELL", "a"), nanoseconds)


def test_name_tags_and_platform(read: Read) -> None:
    spec = read(
        'from: scratch\nname: "{{ v }}-x"\nvars: {v: my}\n'
        'tags: [a/b:1, "{{ spec.name }}"]\nplatforms: [linux/arm64/v8]\n'
    )
    assert spec.name == "my-x"
    assert spec.tags == ("a/b:1", "my-x")
    assert spec.platform == Platform("linux", "arm64")


def test_a_step_knows_where_its_verb_stands(read: Read) -> None:
    spec = read("from: scratch\nsteps:\n  - name: x\n    run: a\n")
    assert spec.steps[0].place == Place("s.yaml", 4, 10)


def test_variables_keep_their_types(read: Read) -> None:
    text = "from: scratch\nvars: {a: 1, b: 1.5, c: true, d: {x: null}, e: [x, {f: no}], g: 0755}\n"
    assert read(text).variables == {
        "a": 1,
        "b": 1.5,
        "c": True,
        "d": {"x": None},
        "e": ["x", {"f": "no"}],
        "g": "0755",
    }


def test_ports_are_told_one_by_one_and_once(read: Callable[..., ImageSpec]) -> None:
    ports = ["80-83", "81/tcp", "82-85/udp", "1-2", "83-84", "80", "84/udp", "65535"]
    found = read(json.dumps({"from": "scratch", "config": {"exposed_ports": ports}}))
    wanted = [*(f"{n}/tcp" for n in (1, 2, 80, 81, 82, 83, 84, 65535))]
    wanted += [f"{n}/udp" for n in (82, 83, 84, 85)]
    assert sorted(found.config.exposed_ports) == sorted(wanted)


def test_many_wide_ranges_are_no_work(read: Callable[..., ImageSpec]) -> None:
    ports = [f"{n}-{65535 - n}/{kind}" for n in range(1, 9000) for kind in ("tcp", "udp", "sctp")]
    started = time.monotonic()
    found = read(json.dumps({"from": "scratch", "config": {"exposed_ports": ports}}))
    assert len(found.config.exposed_ports) == 3 * 65534
    assert time.monotonic() - started < 20
