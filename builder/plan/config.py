"""The image's config document: what the base says with what the spec says over it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from builder.errors import BuilderError
from builder.oci.image import Document
from builder.spec.model import MAX_PATH, ConfigChange, FromEnv, shown

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def merge_config(base: Document, change: ConfigChange) -> dict[str, Any]:
    """The base's config document with `config` changed; what is unknown stays as it is."""
    document = dict(base)
    config: dict[str, Any] = dict(document.get("config") or {})
    if change.env or change.path:
        config["Env"] = list(_merged_env(config.get("Env") or (), change))
    if change.user is not None:
        config["User"] = change.user
    if change.working_dir is not None:
        config["WorkingDir"] = working_dir(config.get("WorkingDir"), change.working_dir)
    if change.shell is not None:
        config["Shell"] = list(change.shell)
    if change.entrypoint is not None:
        config["Entrypoint"] = _command(change.entrypoint, config)
        config.pop("Cmd", None)  # as Docker: it belonged to the entrypoint that is replaced
    if change.cmd is not None:
        config["Cmd"] = _command(change.cmd, config)
    for name, values in (("ExposedPorts", change.exposed_ports), ("Volumes", change.volumes)):
        if values:
            config[name] = {**(config.get(name) or {}), **{value: {} for value in values}}
    if change.labels:
        config["Labels"] = {**(config.get("Labels") or {}), **change.labels}
    if change.stop_signal is not None:
        config["StopSignal"] = change.stop_signal
    if change.healthcheck is not None:
        check = change.healthcheck
        fields = {
            "Test": list(check.test),
            "Interval": check.interval,
            "Timeout": check.timeout,
            "StartPeriod": check.start_period,
            "StartInterval": check.start_interval,
            "Retries": check.retries,
        }
        config["Healthcheck"] = {name: value for name, value in fields.items() if value}
    if change.onbuild:
        config["OnBuild"] = list(change.onbuild)
    if change.author is not None:
        document["author"] = change.author
    if config or document.get("config"):
        document["config"] = config
    return document


def as_base(document: Document) -> Document:
    """A base's config without ONBUILD, which is for what is built on the base and not on that."""
    config = settings_of(document)
    if "OnBuild" not in config:
        return document
    kept = {name: value for name, value in config.items() if name != "OnBuild"}
    return {**document, "config": kept}


def _command(command: str | tuple[str, ...], config: Mapping[str, Any]) -> list[str]:
    """Text runs under the image's shell, as in Docker: without -e if the image names none."""
    if isinstance(command, str):
        return [*(config.get("Shell") or ("/bin/sh", "-c")), command]
    return list(command)


def fit_history(document: Document, layers: int) -> tuple[Document, str]:
    """A base's config document with one history entry, not marked as empty, for each layer; and
    what to tell when what it has does not fit. Engines and registries refuse more than that, and
    less would put the steps' entries beside other layers."""
    history = list(document.get("history") or ())
    count = sum(not entry.get("empty_layer") for entry in history)
    if count == layers:
        return document, ""
    if count < layers:
        fitted = [*history, *({"created_by": "unknown"} for _ in range(layers - count))]
        done = "filled up"
    else:
        fitted, left = [], layers
        for entry in history:
            if not entry.get("empty_layer"):
                if not left:
                    continue
                left -= 1
            fitted.append(entry)
        done = "cut"
    told = f"its history tells of {count} layers and it has {layers}: the history is {done}"
    return {**document, "history": fitted}, told if history else ""


def working_dir(*parts: str | None) -> str:
    """Chain working directories, the base's first; the result is absolute."""
    path = "/"
    for part in parts:
        if part:
            path = posixpath.join(path, part)
    return "/" + posixpath.normpath(path).lstrip("/")  # POSIX lets two slashes at the front be


def in_image(path: str, folder: str) -> str:
    """A target as an absolute path; a relative one is taken from `folder`. A slash at its end
    stays, as it says that a directory is meant."""
    whole = "/" + posixpath.normpath(posixpath.join(folder, path)).lstrip("/")
    if len(whole.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise BuilderError(f"{path!r} is longer than {MAX_PATH} bytes from {folder[:60]!r} on")
    return whole + "/" if path.endswith("/") and whole != "/" else whole


def settings_of(document: Document) -> dict[str, Any]:
    """The `config` of a config document."""
    return document.get("config") or {}


def working_dir_of(document: Document) -> str:
    return working_dir(settings_of(document).get("WorkingDir"))


def _merged_env(base: Any, change: ConfigChange) -> list[str]:
    """Docker's order: the base's variables in their places, new ones behind them."""
    merged = {item.partition("=")[0]: item for item in base}  # one without = stays so
    merged.update({name: _item(name, value) for name, value in change.env.items()})
    if change.path:
        there = variable(merged.get("PATH", ""))[1] or DEFAULT_PATH
        folders = (*change.path, there)
        text, told = ":".join(folders), ":".join(map(shown, folders))
        merged["PATH"] = _item("PATH", text if text == told else FromEnv(text, told))
    return list(merged.values())


def _item(name: str, value: str) -> str:
    text = f"{name}={value}"
    return FromEnv(text, f"{name}={value.shown}") if isinstance(value, FromEnv) else text


def variable(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    if isinstance(item, FromEnv):
        return name, FromEnv(value, item.shown.partition("=")[2])
    return name, value
