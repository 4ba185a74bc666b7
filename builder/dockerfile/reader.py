"""The reader of Dockerfiles as specs, which a run makes once it meets one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from builder.errors import Place, SpecError

if TYPE_CHECKING:
    from builder.dockerfile.convert import Servers
    from builder.spec.load import Inputs
    from builder.spec.model import ImageSpec


class Dockerfiles:
    """Reads Dockerfiles as specs, as spec.load.Dockerfiles has it. `remarks` is what was said of
    them, by place. `servers` are asked once in a run for what is not said of an ADD."""

    def __init__(
        self, root: str, target: str = "", servers: Callable[[], Servers] | None = None
    ) -> None:
        self.root, self.key = root, target
        self._servers = _Asked(servers) if servers else None
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
            path, data, given, base, stage, named, root=self.root, target=self.key,
            servers=self._servers,
        )  # fmt: skip
        for remark in converted.remarks:
            place = Place(path, *remark.place)
            self.remarks.setdefault(place, SpecError(remark.message).at(place))
        return specs, not converted.remarks and not converted.looked


class _Asked:
    """What servers said in this run."""

    def __init__(self, servers: Callable[[], Servers]) -> None:
        self._servers = servers
        self._checksums: dict[str, str] = {}
        self._commits: dict[tuple[str, str], str] = {}

    def checksum_now(self, url: str) -> str:
        if url not in self._checksums:
            self._checksums[url] = self._servers().checksum_now(url)
        return self._checksums[url]

    def commit_now(self, url: str, ref: str) -> str:
        if (url, ref) not in self._commits:
            self._commits[url, ref] = self._servers().commit_now(url, ref)
        return self._commits[url, ref]


class Unasked:
    """In the place of servers where nothing is made of what is read, as in `lint`."""

    def checksum_now(self, url: str) -> str:
        return "0" * 64

    def commit_now(self, url: str, ref: str) -> str:
        return "0" * 40
