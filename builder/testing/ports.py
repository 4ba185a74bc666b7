"""Ports: whether a container listens, seen from outside of it, and what it answers.

What listens is read from the kernel's tables of the container's network (/proc/PID/net); an HTTP
request is made by a thread that enters that network. Nothing is needed in the image.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from builder.executor.signals import command_process
from builder.testing.expect import unmet

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from builder.spec.tests import Http, PortTest

_PAUSE = 0.02  # seconds between two looks
_BODY = 1 << 20  # bytes of an answer that are read
_CLONE_NEWNET = 0x40000000
_STATES = {"tcp": "0A", "udp": "07"}  # LISTEN; bound and not connected


class Watch:
    """Watches a container from its start on, in a thread of its own, and ends it when all is known
    or the time is over."""

    def __init__(self, test: PortTest) -> None:
        self._test = test
        self._why: list[str] | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, process: int) -> None:
        """`process`: the one with which all of the container ends."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(process)
            arguments = (process, handle)
            self._thread = threading.Thread(target=self._watch, args=arguments, daemon=True)
            self._thread.start()

    def end(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def why(self) -> list[str] | None:
        """What does not hold; None: the container ended before that was known."""
        return self._why

    def _watch(self, process: int, handle: int) -> None:
        test = self._test
        until = time.monotonic() + test.within / 10**9
        try:
            found = ""
            while not self._over.is_set():
                found = self._look(process, until)
                if not found or time.monotonic() >= until:
                    break
                self._over.wait(_PAUSE)
            if not self._over.is_set():
                self._why = [found] if found else []
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)

    def _look(self, process: int, until: float) -> str:
        """What does not hold yet."""
        test = self._test
        within = f"within {test.within / 10**9:g} s"
        command = command_process(process)
        if command is None:
            return f"the image's command did not begin {within}"
        os.close(command[0])
        inner = int(command[1]["Pid"])
        try:
            if os.stat(f"/proc/{inner}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino:
                return f"the image's command did not begin {within}"  # not in its network yet
            addresses = _listening(inner, test.port, test.protocol)
        except OSError:  # it has ended
            return f"nothing listens {within}"
        if not addresses:
            others = _others(inner, test.protocol)
            also = f"; what does: {', '.join(map(str, others[:10]))}" if others else ""
            return f"nothing listens {within}{also}"
        if all(each.is_loopback for each in addresses):
            return "it listens at the loopback address alone, which nobody outside can reach"
        return _answer(inner, test.port, test.http, until) if test.http else ""


def _listening(process: int, port: int, protocol: str) -> list[IPv4Address | IPv6Address]:
    """The addresses that a port of a process's network listens at."""
    return [address for address, number in _sockets(process, protocol) if number == port]


def _others(process: int, protocol: str) -> list[int]:
    return sorted({number for _, number in _sockets(process, protocol)})


def _sockets(process: int, protocol: str) -> list[tuple[IPv4Address | IPv6Address, int]]:
    found = []
    for name in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/{process}/net/{name}", encoding="ascii") as file:
                lines = file.readlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for fields in map(str.split, lines):
            if fields[3] == _STATES[protocol]:
                address, _, port = fields[1].partition(":")
                found.append((_address(address), int(port, 16)))
    return found


def _address(text: str) -> IPv4Address | IPv6Address:
    """The kernel writes each four bytes as a number of this machine."""
    from ipaddress import IPv6Address, ip_address

    groups = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    data = b"".join(each[::-1] if sys.byteorder == "little" else each for each in groups)
    found = ip_address(data)
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def _answer(process: int, port: int, wanted: Http, until: float) -> str:
    """What is wrong with what the port answers. In a thread that may change its network."""
    answers: list[str] = []

    def ask() -> None:
        try:
            _enter(process)
            answers.append(_ask(port, wanted, until))
        except OSError as error:
            answers.append(f"its network cannot be entered: {error.strerror or error}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(max(0.1, until - time.monotonic()) + 1)
    return answers[0] if answers else f"GET {wanted.path} is not answered"


def _enter(process: int) -> None:
    """Have this thread in the network of a process. Raises OSError."""
    handle = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)


def _ask(port: int, wanted: Http, until: float) -> str:
    from http.client import HTTPConnection, HTTPException

    fault = ""
    for host in ("127.0.0.1", "::1"):
        connection = HTTPConnection(host, port, timeout=max(0.1, until - time.monotonic()))
        try:
            connection.request("GET", wanted.path, headers={"Host": f"localhost:{port}"})
            response = connection.getresponse()
            body = response.read(_BODY).decode("utf-8", "backslashreplace")
        except (OSError, HTTPException) as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            fault = fault or f"GET {wanted.path} is not answered: {said}"
            continue
        finally:
            connection.close()
        why = [*unmet("the answer", body, wanted.body)]
        if response.status != wanted.status:
            why.insert(0, f"GET {wanted.path} answers {response.status}, expected {wanted.status}")
        return "; ".join(why)
    return fault
