"""Images of the store, by the names it knows them by."""

from __future__ import annotations

from builder.errors import TransportError, UsageError
from builder.oci.image import Descriptor, Image
from builder.store.store import Store
from builder.transport.documents import MAX_MANIFEST, make_image, parse_config, parse_manifest


def load_image(store: Store, name: str) -> tuple[Descriptor, Image]:
    """The manifest's descriptor and the image. `name` is a name, a digest, or the first six or
    more digits of one. Raises UsageError where there is no such image."""
    manifest = find_manifest(store, name)
    where = f"image {name!r}"
    if manifest.size > MAX_MANIFEST:
        raise TransportError(f"{where}: its manifest is larger than {MAX_MANIFEST} bytes")
    document = parse_manifest(store.read(manifest), where, manifest.media_type)
    config = parse_config(store.read(document.config), where)
    return manifest, make_image(document, config, config.platform, where)


def find_manifest(store: Store, name: str) -> Descriptor:
    names = store.names()
    if name in names:
        return names[name]
    digits = name.removeprefix("sha256:")
    found = {each for each in names.values() if each.digest[7:].startswith(digits)}
    if len(digits) >= 6 and len(found) == 1:
        return found.pop()
    import difflib

    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else "`builder images` lists what there is"
    raise UsageError(f"no image {name!r} in the store", hint)
