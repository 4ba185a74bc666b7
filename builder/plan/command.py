"""Commands: a command step with everything decided, from the config it runs under."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from builder.plan.config import environment, working_dir
from builder.plan.folders import makes_it
from builder.plan.state import State
from builder.spec.model import Run

if TYPE_CHECKING:
    from builder.executor.base import Command


def settings_of(state: State) -> dict[str, Any]:
    """The `config` of the config document."""
    return state.config.get("config") or {}


def working_dir_of(state: State) -> str:
    return working_dir(settings_of(state).get("WorkingDir"))


def decided(step: Run, state: State, epoch: int) -> Command:
    from builder.executor.base import Command
    from builder.rootfs.accounts import resolve_owner, resolve_user

    settings = settings_of(state)
    name = step.user or settings.get("User") or "0"
    user = resolve_user(name, state.view)
    folder = working_dir(working_dir_of(state), step.working_dir)
    its_own = step.working_dir is None and makes_it(step.command, folder)
    if its_own and state.view.missing(os.fsencode(folder)):
        folder = "/"
    if isinstance(step.command, str):
        shell = step.shell or tuple(settings.get("Shell") or ()) or ("/bin/sh", "-e", "-c")
        argv = (*shell, step.command)
    else:
        argv = step.command
    return Command(
        argv,
        environment(settings, step, user.home, epoch),
        user.uid,
        user.gid,
        # as engines do: the own group too, so that giving it up takes no rights away
        tuple(dict.fromkeys((user.gid, *user.groups))),
        folder,
        step.network,
        step.timeout / 10**9 if step.timeout else None,
        resolve_owner(name, state.view),
    )
