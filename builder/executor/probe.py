"""Trying an executor by running something: a program that is not there, in an image of nothing.
That the image lacks it can only be said when all else has worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import BuilderError, CommandFailed
from builder.executor.base import Command, Parent
from builder.oci.image import empty_image, host_platform

if TYPE_CHECKING:
    from builder.executor.base import Executor

NOTHING = Command(("/nothing",), {"HOME": "/", "PATH": "/"}, 0, 0, (0,), "/", "host")


def try_it(executor: Executor, network: str = "host") -> str | None:
    """None when the executor works, else why not."""
    try:
        parent = Parent(empty_image(host_platform()), None)
        with executor.run(NOTHING._replace(network=network), parent, lambda chunk: None, 0):
            return f"{executor.name}: ran a command that does not exist"
    except CommandFailed:
        return None
    except BuilderError as error:
        return error.message
    except OSError as error:
        return f"{executor.name}: {error}"
