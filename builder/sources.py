"""Sources: where bases come from, by the kind of `from:`."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterator, Mapping, Sequence

from builder.events import Emit
from builder.store.store import Store
from builder.transport.base import BaseSource
from builder.work.cancel import Cancel


class Sources(Mapping[str, BaseSource]):
    """Base sources by kind, each made and imported when a spec asks for it."""

    def __init__(
        self,
        store: Store,
        context: str,
        emit: Emit,
        cancel: Cancel,
        environ: Mapping[str, str],
        insecure: Sequence[str],
    ) -> None:
        self._store, self._context, self._emit, self._cancel = store, context, emit, cancel
        self._environ, self._insecure = environ, insecure
        self._made: dict[str, BaseSource] = {}
        self._making = allocate_lock()
        self._makers: dict[str, Callable[[Sources], BaseSource]] = {
            "oci": Sources._oci,
            "oci-archive": Sources._oci_archive,
            "docker-archive": Sources._docker_archive,
            "rootfs": Sources._rootfs,
            "debootstrap": Sources._debootstrap,
            "docker-daemon": Sources._docker_daemon,
            "registry": Sources._registry,
        }

    def __getitem__(self, kind: str) -> BaseSource:
        with self._making:
            if kind not in self._made:
                self._made[kind] = self._makers[kind](self)
            return self._made[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def _oci(self) -> BaseSource:
        from builder.transport.layout import LayoutSource

        return LayoutSource(self._store, self._context)

    def _oci_archive(self) -> BaseSource:
        from builder.transport.layout_archive import LayoutArchiveSource

        return LayoutArchiveSource(self._store, self._context)

    def _docker_archive(self) -> BaseSource:
        from builder.transport.archive import ArchiveSource

        return ArchiveSource(self._store, self._context)

    def _rootfs(self) -> BaseSource:
        from builder.transport.rootfs_tar import RootfsSource

        return RootfsSource(self._store, self._context, self._emit)

    def _registry(self) -> BaseSource:
        from builder.transport.registry.settings import settings_from
        from builder.transport.registry.source import RegistrySource

        insecure = frozenset(self._insecure)
        settings = settings_from(self._environ, insecure=insecure)
        return RegistrySource(self._store, settings, self._emit, self._cancel)

    def _docker_daemon(self) -> BaseSource:
        from builder.transport.engine_base import DaemonSource

        return DaemonSource(self._store, self._environ, self._emit)

    def _debootstrap(self) -> BaseSource:
        from builder.transport.debootstrap import DebootstrapSource

        return DebootstrapSource(self._store, self._environ, cancel=self._cancel)
