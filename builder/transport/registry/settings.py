"""Settings: what the user's environment says about registries, as one value made by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Settings(NamedTuple):
    """How to reach registries. Times are seconds."""

    auth_files: tuple[str, ...] = ()
    """Files with credentials (Docker's config.json, containers' auth.json); the first that knows
    the registry decides. Missing ones are passed over."""
    required_auth_file: str | None = None  # one of auth_files that must be there
    insecure: frozenset[str] = frozenset()
    """host[:port] whose certificate is not checked, and which may speak plain http."""
    ca_file: str | None = None  # PEM bundle that replaces the system's
    certs_dirs: tuple[str, ...] = ()
    """Folders with HOST[:PORT]/*.crt (CAs) and *.cert + *.key (client certificates), as Docker's
    /etc/docker/certs.d."""
    proxies: Mapping[str, str] = {}  # "http" | "https" -> proxy URL
    no_proxy: str = ""  # comma list of hosts, .suffixes, CIDR blocks, *
    helper_environment: Mapping[str, str] | None = None  # for credential helpers
    jobs: int = 4  # blobs at once
    connect_timeout: float = 10.0
    idle_timeout: float = 30.0  # without a byte; also for the first header
    commit_timeout: float = 300.0  # a registry may copy gigabytes before it answers an upload
    rate_window: float = 60.0  # in which at least `rate_bytes` must come
    rate_bytes: int = 60 * 1024
    backoff: float = 0.5  # before the first retry, doubled for each further one
    tries: int = 5

    def __repr__(self) -> str:
        return "Settings(...)"  # proxies and the environment may hold passwords


def settings_from(
    environment: Mapping[str, str],
    *,
    insecure: frozenset[str] = frozenset(),
    ca_file: str | None = None,
    jobs: int = 4,
) -> Settings:
    """The settings that Docker and the containers tools would take from this environment."""
    home = environment.get("HOME", "")
    required = environment.get("REGISTRY_AUTH_FILE") or None
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    runtime = environment.get("XDG_RUNTIME_DIR")
    config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = [required] if required else []
    files.append(f"{docker}/config.json")
    if runtime:
        files.append(f"{runtime}/containers/auth.json")
    files.append(f"{config}/containers/auth.json")
    proxies = {
        scheme: value
        for scheme in ("http", "https")
        for name in ("ALL_PROXY", f"{scheme.upper()}_PROXY", f"{scheme}_proxy")
        if (value := environment.get(name))
    }
    return Settings(
        auth_files=tuple(files),
        required_auth_file=required,
        insecure=insecure,
        ca_file=ca_file or environment.get("SSL_CERT_FILE") or None,
        certs_dirs=(
            f"{docker}/certs.d",
            f"{config}/containers/certs.d",
            "/etc/docker/certs.d",
            "/etc/containers/certs.d",
        ),
        proxies=proxies,
        no_proxy=environment.get("no_proxy") or environment.get("NO_PROXY") or "",
        helper_environment=environment,
        jobs=jobs,
    )
