"""The image itself as a row of the plan: its documents, and whether they are those it had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from builder.errors import CorruptBlob
from builder.oci import media
from builder.oci.digest import Digest, digest_of
from builder.oci.image import Descriptor, Image, encode
from builder.plan.clock import timestamp
from builder.plan.config import as_base, merge_config
from builder.plan.last import LastBuild
from builder.plan.step import ConfigStep, own_steps
from builder.spec.model import FromEnv, ImageSpec
from builder.store.store import Store


class ImageHit(NamedTuple):
    """All of it is in the store, and it is what its name means."""

    image: Image
    manifest: Descriptor


class ImageBuild(NamedTuple):
    """Its layers are there; the image that its name means differs, or there is none."""

    why: str
    image: Image
    manifest: Descriptor


class ImageUnknown(NamedTuple):
    """Some of its layers have to be built first."""

    after: str


ImageDecision = ImageHit | ImageBuild | ImageUnknown


def finish(image: Image, spec: ImageSpec, epoch: int, annotations: Mapping[str, str]) -> Image:
    """The image over its last step, as it is published."""
    config = merge_config(as_base(image.config), spec.config)
    for step in own_steps(spec):
        if isinstance(step, ConfigStep):
            config = merge_config(config, step.change)
    config["created"] = timestamp(epoch)
    return image._replace(config=config, annotations=annotations)


def decide(store: Store, last: LastBuild | None, spec: ImageSpec, image: Image) -> ImageDecision:
    """Whether this image, whose layers are all there, is what it was when it was last built."""
    data = image.manifest_bytes()
    manifest = Descriptor(media.MANIFEST, digest_of(data), len(data))
    if last is None:
        if is_stored(store, image, manifest):
            return ImageHit(image, manifest)
        return ImageBuild("first build", image, manifest)
    if last.manifest != manifest.digest:
        return ImageBuild(_difference(store, last, image), image, manifest)
    if last.tags != spec.tags:
        return ImageBuild(_changed("tags", list(last.tags), list(spec.tags)), image, manifest)
    if not is_stored(store, image, manifest):
        return ImageBuild("it is no longer in the cache", image, manifest)
    return ImageHit(image, manifest)


def is_stored(store: Store, image: Image, manifest: Descriptor) -> bool:
    """The image's documents are in the store; gc leaves them from now on."""
    data = image.config_bytes()
    config = Descriptor(media.CONFIG, digest_of(data), len(data))
    return store.claim(manifest) and store.claim(config)


def _difference(store: Store, last: LastBuild, image: Image) -> str:
    """The first thing in which the image differs from the last build."""
    try:
        manifest = _document(store, Digest(last.manifest))
        config = _document(store, Digest(manifest["config"]["digest"]))
        return _first(manifest, config, image)
    except (CorruptBlob, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "changed; what it was is no longer in the cache"


def _document(store: Store, digest: Digest) -> dict[str, Any]:
    blob = store.blob(digest, media.MANIFEST)
    document = json.loads(store.read(blob)) if blob else None
    if not isinstance(document, dict):
        raise ValueError("not a document")
    return document


def _first(manifest: dict[str, Any], config: dict[str, Any], image: Image) -> str:
    new: dict[str, Any] = json.loads(image.config_bytes())
    settings, new_settings = config.get("config") or {}, new.get("config") or {}
    told = image.config.get("config") or {}
    for field in sorted({*settings, *new_settings}):
        old_value, new_value = settings.get(field), new_settings.get(field)
        if old_value != new_value:
            sides = (_hidden(field, told.get(field), side) for side in (old_value, new_value))
            return _setting(field, *sides)
    if config.get("rootfs") != new.get("rootfs"):
        return "its layers are others"
    for field in sorted({*config, *new} - {"config", "rootfs", "history"}):
        if config.get(field) != new.get(field):
            return _changed(field, config.get(field), new.get(field))
    if config.get("history") != new.get("history"):
        return "history: a step is named or written in other words"
    before, after = manifest.get("annotations") or {}, dict(image.annotations)
    if before != after:
        return _entry("annotation", before, after)
    return "its layers are compressed in another way"


def _hidden(field: str, told: Any, value: Any) -> Any:
    """A field of the config with digests in the places of what env() gave now, by `told`, the field
    as it was made."""
    if isinstance(told, dict):
        names = {name for name, each in told.items() if _from_env(each)}
        given = (value or {}).items()
        return {name: _digest(each) if name in names else each for name, each in given}
    if field == "Env":
        names = {each.partition("=")[0] for each in told or () if _from_env(each)}
        pairs = (each.partition("=") for each in value or ())
        return [f"{n}{e}{_digest(each) if n in names else each}" for n, e, each in pairs]
    return _digest(value) if _from_env(told) else value


def _from_env(value: Any) -> bool:
    return any(
        isinstance(each, FromEnv) for each in (value if isinstance(value, list) else [value])
    )


def _digest(value: Any) -> str:
    return digest_of(encode(value))[:19]


_WORDS = {
    "User": "user", "WorkingDir": "working_dir", "Entrypoint": "entrypoint", "Cmd": "cmd",
    "Shell": "shell", "StopSignal": "stop_signal", "Healthcheck": "healthcheck",
}  # fmt: skip
_MAPPINGS = {"Labels": "label", "ExposedPorts": "exposed port", "Volumes": "volume"}


def _setting(field: str, old: Any, new: Any) -> str:
    """A field of the config, by the spec's word for it."""
    if field == "Env":
        pairs = (dict(each.partition("=")[::2] for each in side or ()) for side in (old, new))
        before, after = pairs
        return _entry("env", before, after) if before != after else "env: in another order"
    if field in _MAPPINGS:
        return _entry(_MAPPINGS[field], old or {}, new or {})
    return _changed(_WORDS.get(field, field), old, new)


def _entry(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first entry of a mapping that differs."""
    for name in sorted({*old, *new}):
        if name not in old:
            return f"{what} {name}: new"
        if name not in new:
            return f"{what} {name}: gone"
        if old[name] != new[name]:
            return _changed(f"{what} {name}", old[name], new[name])
    return f"{what}s: changed"


def _changed(what: str, old: Any, new: Any) -> str:
    return f"{what}: {_value(old)} -> {_value(new)}"


def _value(value: Any) -> str:
    if value is None:
        return "unset"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
