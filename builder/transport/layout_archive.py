"""A layout that was packed as a tar: `oci-archive:FILE[:tag]`, as an image to look at."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import LayerError, TransportError
from builder.layer.entry import FILE
from builder.oci.image import Platform
from builder.spec.model import BaseRef
from builder.transport.base import Base, Tell, quiet
from builder.transport.importing import CHUNK
from builder.transport.kept import open_file
from builder.transport.layout import LayoutSource

if TYPE_CHECKING:
    from builder.store.store import Store

_MEMBER = re.compile(rb"index\.json|oci-layout|blobs/sha256/[0-9a-f]{64}")


class LayoutArchiveSource:
    """`context` is the folder that relative paths start from."""

    def __init__(self, store: Store, context: str) -> None:
        self._store, self._context = store, context

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        """All of its layers are in the store then: the archive is unpacked for this alone."""
        if not make:
            return None
        path, _, tag = ref.value.partition(":")
        where = str(ref)
        folder = self._store.temporary()
        try:
            with open_file(os.path.join(self._context, path), where) as file:
                try:
                    _unpack(file, folder)
                except LayerError as error:
                    raise TransportError(f"{where}: {error.what}", error.hint) from error
            if not os.path.exists(os.path.join(folder, "index.json")):
                raise TransportError(
                    f"{where}: it has no index.json: it is no layout that was packed",
                    f"docker-archive:{path} is what docker save writes",
                )
            layout = LayoutSource(self._store, "/")
            inner = ref._replace(value=folder + (f":{tag}" if tag else ""))
            base = layout.resolve(inner, platform, make=make, pull=pull)
            assert base is not None  # a layout is there, or an error is raised
            for layer in base.image.layers if base.provider else ():
                assert base.provider
                base.provider.bring(layer)
        except TransportError as error:
            error.what = error.what.replace(f"{ref.kind}:{folder}", f"{ref.kind}:{path}")
            raise
        finally:
            shutil.rmtree(folder)
        return Base(base.image, where)


def _unpack(file: BinaryIO, folder: str) -> None:
    """The files of a layout, and nothing else, under names that are known."""
    from builder.layer.decompress import open_layer
    from builder.layer.read import read_tar

    os.makedirs(os.path.join(folder, "blobs/sha256"))
    for entry, content in read_tar(open_layer(file)):
        if entry.type == FILE and _MEMBER.fullmatch(entry.path):
            with open(os.path.join(os.fsencode(folder), entry.path), "wb") as target:
                while data := content.read(CHUNK):
                    target.write(data)
