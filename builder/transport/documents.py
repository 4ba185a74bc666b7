"""Documents: index, manifest and config, read as hostile JSON and checked, as values.

Source: image-spec manifest.md, image-index.md, config.md, descriptor.md; Docker's schema 2.
`where` begins every error: the layout, archive or reference that the bytes came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from builder.errors import BuilderError, TransportError
from builder.oci import media
from builder.oci.digest import DiffID, Digest, parse_digest
from builder.oci.image import (
    MAX_LAYERS,
    Descriptor,
    Document,
    Image,
    Layer,
    Platform,
    host_platform,
)

MAX_MANIFEST = 4 * 1024 * 1024
"""Bytes of a manifest or an index; registries refuse larger ones as well."""
MAX_CONFIG = 8 * 1024 * 1024
MAX_SIZE = 2**63 - 1  # what Go's int64 descriptors can say

_NESTED = 4  # an index may hold indexes; nobody nests them deeper
_MAX_IMAGES = 200  # that one index joins

REF_NAME = "org.opencontainers.image.ref.name"

_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_OCI_LAYER = {kind: media.LAYER_OF_CODEC[codec] for kind, codec in media.CODECS.items()}


class Manifest(NamedTuple):
    """An image manifest; `layers` bottom first, with the media types as they stand in it."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = {}


class IndexEntry(NamedTuple):
    blob: Descriptor
    platform: Platform | None = None
    annotations: Mapping[str, str] = {}

    @property
    def attestation(self) -> bool:
        """What BuildKit adds beside an image (provenance, SBOM): no image."""
        unknown = self.platform is not None and self.platform[:2] == ("unknown", "unknown")
        return unknown or "vnd.docker.reference.type" in self.annotations


class Index(NamedTuple):
    """An image index; only entries that are manifests or indexes are kept, in their order."""

    entries: tuple[IndexEntry, ...]
    annotations: Mapping[str, str] = {}


class Config(NamedTuple):
    """An image configuration. `document` holds every field, the unknown ones too; fields known
    here that were null are left out of it, so that `.get(name, default)` is enough to read it."""

    document: Document
    platform: Platform
    diff_ids: tuple[DiffID, ...]


# -- bytes to values -------------------------------------------------------------------------------


def parse_document(data: bytes, where: str, media_type: str | None = None) -> Manifest | Index:
    """A manifest or an index, whichever it says it is.

    `media_type` is what the descriptor or the Content-Type header promised; a document that says
    otherwise is refused, and so is one that could be read as both (CVE-2021-41190).
    """
    document = load_object(data, where, MAX_MANIFEST, "manifest")
    said = document.get("mediaType")
    if said is not None and not isinstance(said, str):
        raise TransportError(f"{where}: mediaType {_quoted(said)} is not text")
    if media_type in (*media.MANIFESTS, *media.INDEXES) and said not in (None, media_type):
        raise TransportError(
            f"{where}: the manifest says it is {_quoted(said)}, expected {media_type!r}"
        )
    kind = said or media_type
    if kind in _SCHEMA_1 or document.get("schemaVersion") == 1:
        raise TransportError(
            f"{where}: this is a Docker schema 1 manifest, expected an OCI or Docker schema 2 one",
            "copy the image with a current tool once, e.g. skopeo copy --format oci",
        )
    if document.get("schemaVersion") != 2:
        version = _quoted(document.get("schemaVersion"))
        raise TransportError(f"{where}: schemaVersion {version} is not known, expected 2")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise TransportError(f"{where}: it could be read as an index and as a manifest")
    if kind in media.INDEXES or (kind not in media.MANIFESTS and "manifests" in document):
        return _index(document, where)
    if kind not in media.MANIFESTS and not (kind is None and "layers" in document):
        raise TransportError(f"{where}: {_quoted(kind)} is not an image manifest or index")
    return _manifest(document, where)


def parse_manifest(data: bytes, where: str, media_type: str | None = None) -> Manifest:
    document = parse_document(data, where, media_type)
    if not isinstance(document, Manifest):
        raise TransportError(f"{where}: it is an index, expected an image manifest")
    return document


def parse_index(data: bytes, where: str, media_type: str | None = None) -> Index:
    document = parse_document(data, where, media_type)
    if not isinstance(document, Index):
        raise TransportError(f"{where}: it is a manifest, expected an index")
    return document


def parse_config(data: bytes, where: str) -> Config:
    where = f"{where}: config"
    document = _spelled(load_object(data, where, MAX_CONFIG, "config"), _FIELDS)
    for name in ("config", "history", "variant", "created", "author"):
        if document.get(name, 0) is None:
            del document[name]
    fields = {name: _text(document.get(name, ""), f"{where}: {name}") for name in _PLATFORM_FIELDS}
    if not fields["os"] or not fields["architecture"]:
        raise TransportError(f"{where}: it does not say its os and architecture")
    history = document.get("history", [])
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise TransportError(f"{where}: history is not a list of objects")
    for entry in history:
        for name in ("created", "author", "created_by", "comment"):
            _text(entry.get(name) or "", f"{where}: history: {name}")
        if not isinstance(entry.get("empty_layer") or False, bool):
            value = _quoted(entry["empty_layer"])
            raise TransportError(f"{where}: history: empty_layer {value} is not true or false")
    if "config" in document:
        _check_runtime(_object(document["config"], f"{where}: config"), where)
    rootfs = _object(document.get("rootfs"), f"{where}: rootfs")
    if rootfs.get("type") != "layers":
        raise TransportError(
            f"{where}: rootfs.type {_quoted(rootfs.get('type'))}, expected 'layers'"
        )
    listed = rootfs.get("diff_ids")
    if listed is None:  # how Go writes an empty list
        listed = rootfs["diff_ids"] = []
    diff_ids = tuple(
        DiffID(_digest(each, f"{where}: diff_ids")) for each in _list(listed, f"{where}: diff_ids")
    )
    return Config(document, _platform(fields), diff_ids)


def make_image(manifest: Manifest, config: Config, platform: Platform, where: str) -> Image:
    """The image that a manifest and its config describe together, checked against each other and
    against the platform that is wanted. Docker's layer media types get their OCI names: the bytes
    are the same, and readers of OCI manifests refuse the others. Annotations are not inherited:
    they speak of the base (its version, its own base), not of what is built on it."""
    if len(config.diff_ids) != len(manifest.layers):
        raise TransportError(
            f"{where}: the manifest has {len(manifest.layers)} layers,"
            f" the config {len(config.diff_ids)} diff_ids"
        )
    check_platform(config.platform, platform, where)
    layers = tuple(
        Layer(diff_id, blob._replace(media_type=_OCI_LAYER[blob.media_type]))
        for diff_id, blob in zip(config.diff_ids, manifest.layers, strict=True)
    )
    return Image(config.platform, config.document, layers)


def images_in(
    top: IndexEntry, read: Callable[[Descriptor], bytes], where: str
) -> Iterator[tuple[IndexEntry, bytes, Manifest]]:
    """The manifests that an entry means, itself one or an index, which may hold indexes; each once,
    with its bytes. `read` gives a document's."""
    waiting, seen = [(top, 0)], set()
    while waiting:
        entry, depth = waiting.pop(0)
        if entry.blob.digest in seen:
            continue
        seen.add(entry.blob.digest)
        if len(seen) > _MAX_IMAGES:
            raise TransportError(f"{where}: an index of more than {_MAX_IMAGES} images")
        if entry.blob.size > MAX_MANIFEST:
            raise TransportError(f"{where}: its manifest is larger than {MAX_MANIFEST} bytes")
        data = read(entry.blob)
        document = parse_document(data, where, entry.blob.media_type)
        if isinstance(document, Manifest):
            yield entry, data, document
        elif depth >= _NESTED:
            raise TransportError(f"{where}: indexes within indexes, expected an image")
        else:
            inner = [each for each in document.entries if not each.attestation]
            waiting += [(each, depth + 1) for each in inner]


# -- platforms -------------------------------------------------------------------------------------


def check_platform(found: Platform, wanted: Platform, where: str) -> None:
    """Raise unless an image for `found` runs on `wanted`. A config often leaves its variant out."""
    higher = found.variant and _rank(found) > _rank(wanted)
    if found[:2] != wanted[:2] or (higher and _rank(found) > _reach(wanted)):
        raise TransportError(
            f"{where}: the image is for {found}, expected {wanted}", f"try --platform {found}"
        )


def as_said(image: Image, entry: IndexEntry) -> Image:
    """An image with the variant that its index says, where its config leaves it out."""
    said = entry.platform
    if said is None or image.platform.variant or said[:2] != image.platform[:2]:
        return image
    return image._replace(platform=said)


def runs_on(found: Platform, wanted: Platform) -> bool:
    """Whether what is for `found` runs where `wanted` does."""
    return found[:2] == wanted[:2] and _rank(found) <= _reach(wanted)


def choose_platform(index: Index, platform: Platform, where: str) -> Descriptor:
    """The entry to take on `platform`: of the same os and architecture the highest variant that is
    not above the wanted one, as containerd orders them (arm means v7, arm64 v8, amd64 v1); if there
    is none, the highest that this machine's CPU has. Without a match, an only image whose entry
    names no platform is taken; its config is checked later."""
    images = [entry for entry in index.entries if not entry.attestation]
    best = _best(images, platform, _rank(platform)) or _best(images, platform, _reach(platform))
    if best is None and len(images) == 1 and images[0].platform is None:
        best = images[0]
    if best is None:
        there = ", ".join(sorted({str(entry.platform or "unnamed") for entry in images})[:30])
        raise TransportError(f"{where}: no image for {platform}; there is {there or 'none at all'}")
    return best.blob


def _best(
    images: Iterable[IndexEntry], wanted: Platform, highest: tuple[int, ...]
) -> IndexEntry | None:
    best: IndexEntry | None = None
    for entry in images:
        found = entry.platform
        if found is None or found[:2] != wanted[:2] or _rank(found) > highest:
            continue
        if best is None or best.platform is None or _rank(found) > _rank(best.platform):
            best = entry
    return best


_DEFAULT_VARIANT = {"arm": "v7", "arm64": "v8", "amd64": "v1"}


def _rank(platform: Platform) -> tuple[int, ...]:
    variant = platform.variant or _DEFAULT_VARIANT.get(platform.architecture, "")
    return tuple(int(number) for number in re.findall(r"[0-9]{1,6}", variant))


_PLATFORM_FIELDS = ("os", "architecture", "variant")


def _platform(fields: Mapping[str, str]) -> Platform:
    platform = Platform(*(fields[name] for name in _PLATFORM_FIELDS))
    number = platform.variant.removeprefix("v")
    if number.isdigit():  # "8" and "v8" are one
        platform = platform._replace(variant=f"v{number}")
    if platform.variant == {"arm64": "v8", "amd64": "v1"}.get(platform.architecture):
        platform = platform._replace(variant="")
    return platform


_V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
_V3 = f"{_V2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
_LEVELS = (_V2, _V3, f"{_V3} avx512f avx512bw avx512cd avx512dq avx512vl")
"""What the kernel calls the features of x86-64-v2, v3 and v4 (System V ABI, AMD64, 3.1.1)."""


def _reach(wanted: Platform) -> tuple[int, ...]:
    """The rank of the highest variant that runs. Where amd64 is wanted without a variant, what this
    machine's CPU has counts, should there be nothing lower."""
    if wanted.variant or wanted[:2] != host_platform()[:2] or wanted.architecture != "amd64":
        return _rank(wanted)
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        line = ""
    flags = set(line.partition(":")[2].split())
    return (1 + sum(flags.issuperset(level.split()) for level in _LEVELS),)


# -- parts -----------------------------------------------------------------------------------------


def _manifest(document: dict[str, Any], where: str) -> Manifest:
    config = _descriptor(document.get("config"), f"{where}: config")
    if config.media_type not in media.CONFIGS:
        raise TransportError(
            f"{where}: config is {_quoted(config.media_type)}, not an image configuration",
            "this is an artifact (a chart, a signature, ...), not a container image",
        )
    if config.size > MAX_CONFIG:
        raise TransportError(f"{where}: config of {config.size} bytes, at most {MAX_CONFIG}")
    listed = document.get("layers")
    # null: how Go writes an empty list
    listed = [] if listed is None and "layers" in document else _list(listed, f"{where}: layers")
    if len(listed) > MAX_LAYERS:
        raise TransportError(f"{where}: {len(listed)} layers, at most {MAX_LAYERS} can be run")
    layers = tuple(
        _layer(each, f"{where}: layer {number}") for number, each in enumerate(listed, start=1)
    )
    return Manifest(config, layers, _annotations(document, where))


def _layer(value: object, where: str) -> Descriptor:
    layer = _descriptor(value, where)  # its `urls` are never followed
    kind = layer.media_type
    if "nondistributable" in kind or ".foreign." in kind:
        raise TransportError(
            f"{where}: a {kind[:100]!r} layer may not be distributed; such are not supported",
            "this is usual for Windows images only",
        )
    if kind not in media.CODECS:
        raise TransportError(f"{where}: {_quoted(kind)} is not a known kind of layer")
    return layer


def _index(document: dict[str, Any], where: str) -> Index:
    entries = []
    for number, value in enumerate(_list(document.get("manifests"), f"{where}: manifests"), 1):
        place = f"{where}: manifest {number}"
        blob = _descriptor(value, place)
        if blob.media_type not in media.MANIFESTS and blob.media_type not in media.INDEXES:
            continue  # image-index.md: unknown media types are ignored
        fields = _object(value, place)
        platform = None
        if fields.get("platform") is not None:
            said = _object(fields["platform"], f"{place}: platform")
            platform = _platform(
                {name: _text(said.get(name) or "", f"{place}: {name}") for name in _PLATFORM_FIELDS}
            )
        entries.append(IndexEntry(blob, platform, _annotations(fields, place)))
    return Index(tuple(entries), _annotations(document, where))


def _descriptor(value: object, where: str) -> Descriptor:
    fields = _object(value, where)
    media_type = _text(fields.get("mediaType"), f"{where}: mediaType")
    size = fields.get("size")
    if type(size) is not int or not 0 <= size <= MAX_SIZE:  # True is an int to isinstance
        raise TransportError(f"{where}: size {_quoted(size)} is not a number of bytes")
    return Descriptor(media_type, _digest(fields.get("digest"), where), size)


def _digest(value: object, where: str) -> Digest:
    try:
        return parse_digest(value)
    except BuilderError as error:
        raise TransportError(f"{where}: {error.message}") from error


def _annotations(fields: Mapping[str, Any], where: str) -> dict[str, str]:
    if fields.get("annotations") is None:
        return {}
    where = f"{where}: annotations"
    annotations = _object(fields["annotations"], where)
    return {key: _text(value, where) for key, value in annotations.items()}


def _texts(value: object, where: str) -> None:
    for each in _list(value, where):
        _text(each, where)


def _text_map(value: object, where: str) -> None:
    for each in _object(value, where).values():
        _text(each, where)


_RUNTIME_FIELDS: dict[str, Callable[[object, str], object]] = {
    **dict.fromkeys(("Env", "Cmd", "Entrypoint", "Shell", "OnBuild"), _texts),
    "Labels": _text_map,
    **dict.fromkeys(("ExposedPorts", "Volumes", "Healthcheck"), lambda v, w: _object(v, w)),
    **dict.fromkeys(("User", "WorkingDir", "StopSignal"), lambda v, w: _text(v, w)),
}


_Fields = dict[str, Any]  # by name: None, or the fields of the object or of the objects in the list
_HEALTH = dict.fromkeys(
    ("Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"), None
)
_FIELDS: _Fields = {
    **dict.fromkeys(("created", "author", "architecture", "os", "variant"), None),
    "config": {**dict.fromkeys((*_RUNTIME_FIELDS, "ArgsEscaped"), None), "Healthcheck": _HEALTH},
    "rootfs": dict.fromkeys(("type", "diff_ids"), None),
    "history": dict.fromkeys(("created", "author", "created_by", "comment", "empty_layer"), None),
}


def _spelled(document: dict[str, Any], fields: _Fields) -> dict[str, Any]:
    """The document with the names of known fields as the image-spec writes them: Go, in which the
    engines are written, reads them in any case, and of several the last."""
    names = {name.casefold(): name for name in fields}
    result: dict[str, Any] = {}
    for key, value in document.items():
        name = names.get(key.casefold(), key)
        inner = fields.get(name)
        if inner and isinstance(value, dict):
            value = _spelled(value, inner)
        elif inner and isinstance(value, list):
            value = [_spelled(each, inner) if isinstance(each, dict) else each for each in value]
        result[name] = value
    return result


def _check_runtime(fields: dict[str, Any], where: str) -> None:
    """The fields of `config.config` that a build reads have the types of config.md."""
    for name, check in _RUNTIME_FIELDS.items():
        if name not in fields:
            continue
        if fields[name] is None:
            del fields[name]
        else:
            check(fields[name], f"{where}: {name}")


# -- JSON ------------------------------------------------------------------------------------------


def load_object(data: bytes, where: str, limit: int, what: str) -> dict[str, Any]:
    """A JSON object that can be written again as it was read; `what` names it in errors."""
    return _object(_load(data, where, limit, what), where)


def load_list(data: bytes, where: str, limit: int, what: str) -> list[Any]:
    """As load_object, for documents that are lists."""
    return _list(_load(data, where, limit, what), where)


def _load(data: bytes, where: str, limit: int, what: str) -> object:
    if len(data) > limit:
        raise TransportError(f"{where}: a {what} of {len(data)} bytes, at most {limit}")
    try:
        document: object = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
        # lone surrogates, NaN and Infinity can be read but not be written again
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError as error:
        raise TransportError(f"{where}: the {what} is nested too deeply") from error
    except ValueError as error:  # syntax, encoding, endless numbers, duplicates
        reason = str(error).splitlines()[0][:200]
        raise TransportError(f"{where}: the {what} is not valid JSON: {reason}") from error
    return document


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key[:60]!r} is there twice")
        result[key] = value
    return result


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TransportError(f"{where}: {_quoted(value)} is not an object")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise TransportError(f"{where}: {_quoted(value)} is not a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TransportError(f"{where}: {_quoted(value)} is not text")
    return value


def _quoted(value: object) -> str:
    """A hostile value for a one-line message: short, no control characters."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return ascii(value if not isinstance(value, str) else value[:100])[:120]
