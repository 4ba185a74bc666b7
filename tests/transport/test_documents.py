"""Documents: what is accepted, and what is refused with which words."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest

from builder.errors import TransportError
from builder.oci import media
from builder.oci.image import Platform
from builder.transport.documents import (
    Index,
    Manifest,
    check_platform,
    choose_platform,
    make_image,
    parse_config,
    parse_document,
    parse_index,
    parse_manifest,
)

ZERO = "sha256:" + "0" * 64
LAYER = {"mediaType": media.LAYER_GZIP, "digest": ZERO, "size": 1}
CONFIG = {"mediaType": media.CONFIG, "digest": ZERO, "size": 2}
AMD64 = Platform()


def manifest(**change: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **change}).encode()


def config(**change: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [ZERO]}
    return json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs, **change}).encode()


def index(*platforms: str | None) -> Index:
    entries = []
    for number, text in enumerate(platforms):
        entry: dict[str, Any] = {"mediaType": media.MANIFEST, "size": number, "digest": ZERO}
        if text is not None:
            names = ("os", "architecture", "variant")
            entry["platform"] = dict(zip(names, text.split("/"), strict=False))
        entries.append(entry)
    return parse_index(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), "x")


def test_oci_and_docker_documents_are_read() -> None:
    assert isinstance(parse_document(manifest(), "x"), Manifest)
    docker = manifest(
        mediaType=media.DOCKER_MANIFEST,
        config={**CONFIG, "mediaType": media.DOCKER_CONFIG},
        layers=[{**LAYER, "mediaType": media.DOCKER_LAYER_GZIP, "urls": ["http://evil.test"]}],
    )
    parsed = parse_manifest(docker, "x", media.DOCKER_MANIFEST)
    image = make_image(parsed, parse_config(config(), "x"), AMD64, "x")
    assert image.layers[0].blob.media_type == media.LAYER_GZIP


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON"),
        (b"[]", "a list is not an object"),
        (b"null", "None is not an object"),
        (b"\xff", "not valid JSON"),
        (b'{"a": 1, "a": 2}', "key 'a' is there twice"),
        (b'{"a": NaN}', "not JSON compliant"),
        (b'{"a": 1e999}', "not JSON compliant"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b" " * (4 << 20) + b"{}", "at most 4194304"),
        (manifest(schemaVersion=3), "schemaVersion 3 is not known"),
        (manifest(schemaVersion=1), "Docker schema 1"),
        (manifest(mediaType=media.INDEX, manifests=[]), "as an index and as a manifest"),
        (manifest(mediaType="text/html"), "'text/html' is not an image manifest"),
        (manifest(mediaType=[1]), "mediaType a list is not text"),
        (manifest(layers={}), "layers: an object is not a list"),
        (manifest(layers=[None]), "layer 1: None is not an object"),
        (manifest(layers=[LAYER] * 128), "128 layers, at most 127"),
        (manifest(layers=[{**LAYER, "size": True}]), "size True"),
        (manifest(layers=[{**LAYER, "size": 1.0}]), "size 1.0"),
        (manifest(layers=[{**LAYER, "size": 2**63}]), "size 9223372036854775808"),
        (manifest(layers=[{**LAYER, "digest": "sha512:" + "0" * 128}]), "is not a digest"),
        (manifest(layers=[{**LAYER, "digest": "sha256:../" + "0" * 61}]), "is not a digest"),
        (manifest(layers=[{**LAYER, "mediaType": "a\nb"}]), r"'a\nb' is not a known"),
        (
            manifest(layers=[{**LAYER, "mediaType": media.LAYER + "+encrypted"}]),
            "not a known kind of layer",
        ),
        (
            manifest(
                layers=[
                    {**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar"}
                ]
            ),
            "may not be distributed",
        ),
        (manifest(config={**CONFIG, "mediaType": "application/x-chart"}), "not an image config"),
        (manifest(config={**CONFIG, "size": 1 << 30}), "config of 1073741824 bytes"),
        (manifest(annotations={"a": 1}), "annotations: 1 is not text"),
    ],
)
def test_hostile_manifests_are_refused_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(TransportError, match=r"^here: ") as caught:
        parse_document(data, "here")
    assert said in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


def test_a_document_is_what_its_descriptor_promised() -> None:
    with pytest.raises(TransportError, match="expected"):
        parse_document(manifest(mediaType=media.DOCKER_MANIFEST), "x", media.MANIFEST)
    with pytest.raises(TransportError, match="it is a manifest"):
        parse_index(manifest(), "x")


def test_no_layers_may_be_null_as_go_writes_them() -> None:
    assert parse_manifest(manifest(layers=None), "x").layers == ()


def test_names_of_a_config_are_read_in_any_case_as_go_reads_them() -> None:
    data = json.dumps(
        {
            "OS": "linux",
            "Architecture": "amd64",
            "rootFS": {"Type": "layers", "DIFF_IDS": None},
            "Config": {
                "env": ["A=b", "NOEQ"],
                "cmd": ["a"],
                "Cmd": ["b"],
                "labels": {"cmd": "kept", "Env": "kept"},
                "healthcheck": {"test": ["NONE"]},
                "x-unknown": {"env": 1},
                "wor\u212aingdir": "/k",
            },
            "History": [{"Created_By": "x", "EMPTY_LAYER": True}],
        }
    ).encode()
    parsed = parse_config(data, "x")
    assert parsed.platform == Platform("linux", "amd64")
    assert parsed.document["config"] == {
        "Env": ["A=b", "NOEQ"],
        "Cmd": ["b"],
        "Labels": {"cmd": "kept", "Env": "kept"},
        "Healthcheck": {"Test": ["NONE"]},
        "x-unknown": {"env": 1},
        "WorkingDir": "/k",
    }
    assert parsed.document["history"] == [{"created_by": "x", "empty_layer": True}]


def test_configs_keep_unknown_fields_and_lose_nulls() -> None:
    data = config(config={"Env": None, "Cmd": ["a"], "X": 1}, history=None, unknown={"a": [1.5]})
    document = parse_config(data, "x").document
    assert document["config"] == {"Cmd": ["a"], "X": 1}
    assert "history" not in document
    assert document["unknown"] == {"a": [1.5]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"os": ""}, "os and architecture"),
        ({"architecture": 1}, "architecture: 1 is not text"),
        ({"rootfs": None}, "rootfs: None is not an object"),
        ({"rootfs": {"type": "x"}}, "rootfs.type 'x'"),
        ({"rootfs": {"type": "layers", "diff_ids": ["x"]}}, "'x' is not a digest"),
        ({"history": [1]}, "history is not a list of objects"),
        ({"config": {"Env": "A=1"}}, "Env: 'A=1' is not a list"),
        ({"config": {"Env": ["A=\0"]}}, "Env:"),
        ({"config": {"Cmd": [1]}}, "Cmd: 1 is not text"),
        ({"config": {"Labels": {"a": None}}}, "Labels: None is not text"),
        ({"config": {"User": 0}}, "User: 0 is not text"),
        ({"config": {"Volumes": []}}, "Volumes: a list is not an object"),
    ],
)
def test_hostile_configs_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TransportError, match=r"^here: config") as caught:
        parse_config(config(**change), "here")
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        (("linux/amd64", "linux/arm64/v8"), "linux/arm64", 1),
        (("linux/arm64",), "linux/arm64", 0),
        (("linux/arm/v5", "linux/arm/v7", "linux/arm/v6"), "linux/arm", 1),
        (("linux/arm/v5", "linux/arm/v7", "linux/arm/v6"), "linux/arm/v6", 2),
        (("linux/arm/v5", "linux/arm/v6"), "linux/arm/v7", 1),
        (("linux/amd64", "linux/amd64/v3"), "linux/amd64", 0),
        (("linux/amd64", "linux/amd64/v3"), "linux/amd64/v4", 1),
        (("unknown/unknown", "linux/amd64"), "linux/amd64", 1),
        (("unknown/unknown", None), "linux/amd64", 1),
        (("linux/arm/v7",), "linux/arm/v6", None),
        (("windows/amd64",), "linux/amd64", None),
        ((None, None), "linux/amd64", None),
        ((), "linux/amd64", None),
    ],
)
def test_the_nearest_variant_is_chosen(
    there: tuple[str | None, ...], wanted: str, chosen: int | None
) -> None:
    platform = Platform(*wanted.split("/"))
    if chosen is None:
        with pytest.raises(TransportError, match=f"no image for {wanted}; there is "):
            choose_platform(index(*there), platform, "x")
    else:
        assert choose_platform(index(*there), platform, "x").size == chosen


def test_a_config_for_another_platform_is_refused() -> None:
    check_platform(Platform("linux", "arm"), Platform("linux", "arm", "v6"), "x")
    with pytest.raises(TransportError, match="the image is for linux/arm64, expected linux/amd64"):
        check_platform(Platform("linux", "arm64"), AMD64, "x")


def levels() -> set[str]:
    """The variants of amd64 that this machine's CPU has, as the C library says."""
    said = subprocess.run(
        ["/lib64/ld-linux-x86-64.so.2", "--help"], capture_output=True, text=True, check=True
    ).stdout
    return {f"v{level}" for level in re.findall(r"x86-64-v([234]) \(supported", said)}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86-64")
def test_an_index_of_higher_variants_gives_the_best_that_the_cpu_has() -> None:
    there = levels()
    for offered in (("v2",), ("v3",), ("v4",), ("v2", "v3"), ("v4", "v3", "v2"), ("v9", "v2")):
        names = tuple(f"linux/amd64/{variant}" for variant in offered)
        fit = sorted(there.intersection(offered))
        if not fit:
            with pytest.raises(TransportError, match="no image for linux/amd64; there is "):
                choose_platform(index(*names), AMD64, "x")
            continue
        assert choose_platform(index(*names), AMD64, "x").size == offered.index(fit[-1])
        check_platform(Platform("linux", "amd64", fit[-1]), AMD64, "x")
    with pytest.raises(TransportError):
        choose_platform(index("linux/amd64/v3"), Platform("linux", "amd64", "v2"), "x")
    assert choose_platform(index("linux/amd64/v2", "linux/amd64"), AMD64, "x").size == 1
