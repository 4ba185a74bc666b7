"""A machine with an interface, another machine beyond it, and what listens there: runs a command
on it and says what that left running. Not a test; started by `unshare` in namespaces of its own:

    unshare --net --mount --pid --fork --mount-proc python topology.py JSON COMMAND...

JSON: {"nameserver": ADDRESS, "files": {PATH: TEXT, "" for none, null for none executable},
"tun": MODE or null for no such device}. Exits with the command's status, 99 if it left processes.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

NEAR, FAR = "192.168.77.1", "192.168.77.2"
LOOPBACK_RESOLVER = "127.0.0.53"
HTTP, CLOSED, ABSTRACT = 8000, 8001, "builder-canary"


def main() -> None:
    if sys.argv[1:] == ["far"]:
        far()
    asked = json.loads(sys.argv[1])
    beyond = subprocess.Popen(
        ["unshare", "--net", sys.executable, __file__, "far"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert beyond.stdin and beyond.stdout
    beyond.stdout.readline()  # it is in its network
    ip("link set lo up")
    ip(f"link add near type veth peer name far netns {beyond.pid}")
    ip(f"address add {NEAR}/24 dev near")
    ip("link set near up")
    beyond.stdin.write(b"go\n")
    beyond.stdin.flush()
    beyond.stdout.readline()
    ip(f"route add default via {FAR}")
    serve_http(NEAR, HTTP, "near")
    serve_http("127.0.0.1", CLOSED, "loopback")
    serve_names(asked["nameserver"] if asked["nameserver"] != FAR else LOOPBACK_RESOLVER)
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{ABSTRACT}")
        abstract.listen()
        arrange(asked)
        status = subprocess.run(sys.argv[2:], check=False).returncode
        left = what_is_left(beyond.pid)
    beyond.kill()
    if left:
        print("left running:", *left, sep="\n")
        sys.exit(99)
    sys.exit(status if status >= 0 else 128 - status)


def far() -> None:
    print("there", flush=True)
    sys.stdin.readline()
    ip("link set lo up")
    ip(f"address add {FAR}/24 dev far")
    ip("link set far up")
    serve_http(FAR, HTTP, "far")
    serve_names(FAR)
    print("serving", flush=True)
    threading.Event().wait()


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def arrange(asked: dict) -> None:  # type: ignore[type-arg]
    """Files and devices in the mount namespace that this is in."""
    os.makedirs("/run/builder-topology", exist_ok=True)
    mount("tmpfs", "/run/builder-topology", "-t", "tmpfs")
    files = {"/etc/resolv.conf": f"nameserver {asked['nameserver']}\nsearch test\n"}
    for number, (path, text) in enumerate({**files, **asked.get("files", {})}.items()):
        stand_in = f"/run/builder-topology/{number}"
        with open(stand_in, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(stand_in, 0o755 if text.startswith("#!") else 0o644)
        mount(stand_in, os.path.realpath(path), "--bind")
    mount("tmpfs", "/dev/net", "-t", "tmpfs")
    if asked.get("tun"):
        os.mknod("/dev/net/tun", 0o020600, os.makedev(10, 200))
        os.chmod("/dev/net/tun", asked["tun"])


def mount(source: str, target: str, *options: str) -> None:
    subprocess.run(["mount", *options, source, target], check=True)


def what_is_left(far: int) -> list[str]:
    """Processes of the pid namespace that should not be there, after 5 seconds at most."""
    until = time.monotonic() + 5
    while True:
        left = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode()
                if command and int(name) not in (1, os.getpid(), far):
                    left.append(f"{name} {command}")
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.05)


def serve_http(address: str, port: int, text: str) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_names(address: str) -> None:
    handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    handle.bind((address, 53))

    def serve() -> None:
        while True:
            question, client = handle.recvfrom(4096)
            handle.sendto(name_answer(question), client)

    threading.Thread(target=serve, daemon=True).start()


def name_answer(question: bytes) -> bytes:
    """far.test is FAR; there is no other name."""
    end = question.index(b"\0", 12) + 5
    name, kind = question[12 : end - 4], struct.unpack("!H", question[end - 4 : end - 2])[0]
    known = name == b"\3far\4test\0"
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(FAR)
    found = record if known and kind == 1 else b""
    flags = 0x8580 if known else 0x8583
    head = struct.pack("!HHHHHH", struct.unpack("!H", question[:2])[0], flags, 1, bool(found), 0, 0)
    return head + question[12:end] + found


if __name__ == "__main__":
    main()
