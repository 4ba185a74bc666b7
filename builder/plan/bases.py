"""Bases: the images that are no spec's, and whether what stands on them fits."""

from __future__ import annotations

from collections.abc import Mapping

from builder.errors import BuilderError, SpecError
from builder.oci.image import Image, Platform, empty_image
from builder.plan import config
from builder.plan.planned import Settings
from builder.plan.sources import base_fault
from builder.rootfs.layers import Layers
from builder.spec.model import BaseRef, ImageSpec
from builder.transport.base import Base, BaseSource, Tell, quiet


class Bases:
    """Asks the sources; `root` is the context that their paths are relative to."""

    def __init__(
        self,
        layers: Layers,
        root: str,
        sources: Mapping[str, BaseSource],
        settings: Settings,
    ) -> None:
        self._layers, self._root = layers, root
        self._sources, self._settings = sources, settings

    def resolve(
        self,
        ref: BaseRef,
        platform: Platform,
        *,
        make: bool,
        pull: str | None = None,
        tell: Tell = quiet,
    ) -> Base | None:
        """An image that is no spec's. None: it would have to be made. `pull` is the settings'
        unless it is given; `tell` as BaseSource.resolve has it."""
        if ref.kind == "scratch":
            return Base(empty_image(platform), "scratch")
        source = self._sources.get(ref.kind)
        if source is None:
            raise SpecError(f"no way to read a base of the kind {ref.kind!r}").at(ref.place)
        if fault := base_fault(ref, self._root):
            raise fault
        try:
            pull = pull or self._settings.pull
            found = source.resolve(ref, platform, make=make, pull=pull, tell=tell)
        except BuilderError as error:
            from builder.spec.advice import misspelt

            if meant := misspelt(ref):
                error.hint = f"did you mean {meant!r}? {ref} is an image of a registry"
            error.at(ref.place)
            raise
        if found is None:
            return None
        image = found.image
        offered = (found.provider,) if found.provider else ()
        self._layers.offer(f"the base {ref}", image.layers, *offered)
        document, note = config.fit_history(image.config, len(image.layers))
        return found._replace(image=image._replace(config=document), note=note)

    def check_machine(self, spec: ImageSpec, image: Image) -> None:
        """A base, whose layers are all there, has programs for the platform that is wanted, unless
        others are allowed. Raises SpecError."""
        platform = self._settings.platform_of(spec)
        if self._settings.allow_foreign or not image.layers or platform.os != "linux":
            return
        name = f"machine-{image.chain_id[7:]}"
        known = self._layers.store.load("memos", name)
        # before it is said that they are for others, they are looked at
        if known is None or known not in (b"", platform.architecture.encode()):
            from builder.rootfs.machine import architecture

            known = (architecture(self._layers, image.layers) or "").encode()
            self._layers.store.remember("memos", name, known)
        found = known.decode("ascii", "replace")
        if found and found != platform.architecture:
            wanted = f"--platform linux/{found}"
            raise SpecError(
                f"the programs of {spec.base} are for {found}, expected {platform.architecture}",
                f"{f'platforms: [linux/{found}]' if spec.platforms else wanted} says so;"
                f" --allow-foreign builds it as {platform} all the same",
            ).at(spec.base.place)
