"""Container images from YAML specs, without a daemon.

The Python API: `load_spec(path, environ={})` reads one spec, `make_plan(images, cache_dir=...)`
says what a build would do, `build(images, cache_dir=...)` does it. Imported when first used: the
command line needs none of them to print its help.
"""

from typing import TYPE_CHECKING, Any

from builder.version import __version__

__all__ = ["__version__", "build", "load_spec", "make_plan"]

if TYPE_CHECKING:
    from builder.api import build, load_spec, make_plan


def __getattr__(name: str) -> Any:
    if name in ("build", "load_spec", "make_plan"):
        from builder import api

        return getattr(api, name)
    raise AttributeError(name)
