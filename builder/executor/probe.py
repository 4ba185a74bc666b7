"""Trying an executor by running something: a program that only ends, on an image that holds only
it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.errors import BuilderError
from builder.executor.base import Command, Parent
from builder.executor.overlay import remove_tree
from builder.executor.program import Assembler
from builder.oci.image import empty_image, host_platform

if TYPE_CHECKING:
    from builder.executor.base import Executor

_NOTHING = Command(("/true",), {}, 0, 0, (), "/", "host")


def try_it(executor: Executor, temporary: Callable[[], str]) -> str | None:
    """None when the executor works, else why not."""
    try:
        folder = temporary()
    except BuilderError as error:
        return error.message
    try:
        with open(os.path.join(folder, "true"), "wb") as file:
            file.write(Assembler(os.uname().machine, 2).elf(status=0))
        os.chmod(os.path.join(folder, "true"), 0o755)
        os.chmod(folder, 0o755)
        parent = Parent(empty_image(host_platform()), lambda: (folder,))
        with executor.run(_NOTHING, parent, lambda chunk: None, 0):
            return None
    except BuilderError as error:
        return error.message
    except OSError as error:
        return f"{executor.name}: {error}"
    finally:
        remove_tree(folder)
