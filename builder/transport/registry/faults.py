"""Faults: what a registry's refusal means, in one line with a hint.

Source: distribution-spec, Error Codes. Texts from a registry are hostile: short, printable, and
without the credentials that it may echo.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.errors import TransportError
from builder.transport.registry.http import retry_after

if TYPE_CHECKING:
    from builder.transport.registry.auth import Authorizer
    from builder.transport.registry.http import Response


class RegistryError(TransportError):
    """A registry said no. `codes` are its own, e.g. MANIFEST_UNKNOWN."""

    def __init__(self, message: str, hint: str | None, status: int, codes: tuple[str, ...]) -> None:
        super().__init__(message, hint)
        self.status, self.codes = status, codes


def refusal(what: str, response: Response, authorizer: Authorizer) -> RegistryError:
    """The error for an answer nobody wanted; `what` says what was tried: "push of HOST/NAME"."""
    status = response.status
    codes, text = _said(response)
    text = authorizer.redact(text)
    host = authorizer.origin.name
    said = f": {text}" if text else ""
    hint = None
    if status == 401 or (status == 403 and "DENIED" in codes):
        who = authorizer.source()
        message = f"{what}: unauthorized (credentials tried: {who}){said}"
        hint = f"docker login {host}"
        if status == 403:
            message = f"{what}: denied (credentials tried: {who}){said}"
            hint = f"check the name and your rights there, or docker login {host} as another user"
    elif status == 429:
        message = f"{what}: rate limit{_ends(response)}{said}"
        hint = f"wait, or docker login {host}: many registries allow more to users they know"
    elif status == 404 and "NAME_UNKNOWN" in codes:
        message = f"{what}: the registry has no such repository"
        hint = "check the spelling; a private one may need docker login"
    else:
        message = f"{what}: the registry answered {status}{said}"
    return RegistryError(message, hint, status, codes)


def _ends(response: Response) -> str:
    from datetime import UTC, datetime, timedelta

    seconds = retry_after(response)
    if seconds is None:
        return ""
    seconds = min(seconds, 10 * 365 * 86400)
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    return f", it ends in {seconds:.0f} s, at {ends:%Y-%m-%d %H:%M:%S} UTC"


def _said(response: Response) -> tuple[tuple[str, ...], str]:
    """The codes and the messages of an `errors` body, or what stands there instead."""
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        return (), printable(response.body.decode("utf-8", "replace"))
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return (), ""
    found = [each for each in errors if isinstance(each, dict)][:5]
    codes = tuple(str(each.get("code", ""))[:60] for each in found)
    texts = [str(each.get("message") or each.get("code") or "") for each in found]
    return codes, printable("; ".join(filter(None, texts)))


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:300]
