"""The reader of Dockerfiles as specs, which a run makes once it meets one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from builder.errors import Place, SpecError

if TYPE_CHECKING:
    from builder.spec.load import Inputs
    from builder.spec.model import ImageSpec


class Dockerfiles:
    """Reads Dockerfiles as specs, as spec.load.Dockerfiles has it. `remarks` is what was said of
    them, by place."""

    def __init__(self, root: str, target: str = "") -> None:
        self.root, self.key = root, target
        self.remarks: dict[Place, SpecError] = {}

    def read(
        self,
        path: str,
        data: bytes,
        given: Inputs,
        base: Mapping[str, Any] | None,
        stage: str,
        named: str,
    ) -> tuple[tuple[ImageSpec, ...], bool]:
        # not above: a Dockerfile that is known from the last time needs none of it
        from builder.dockerfile.loading import read_dockerfile

        specs, converted = read_dockerfile(
            path, data, given, base, stage, named, root=self.root, target=self.key
        )
        for remark in converted.remarks:
            place = Place(path, *remark.place)
            self.remarks.setdefault(place, SpecError(remark.message).at(place))
        return specs, not converted.remarks and not converted.looked
