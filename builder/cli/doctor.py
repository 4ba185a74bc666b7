"""`builder doctor`."""

from __future__ import annotations

import argparse
import json
import os
import sys

from builder.cli import screen, wiring


def doctor(arguments: argparse.Namespace) -> int:
    """1 when no executor works."""
    from builder.executor.choose import AUTO, private_network
    from builder.executor.choose import doctor as examine
    from builder.executor.emulator import EMULATED, NOT_TRIED, emulation, hint_for
    from builder.oci.image import Platform

    emit = screen.renderer("plain")
    store = wiring.open_store(arguments, emit)
    fault = wiring.become_root()  # as a build does
    found = examine(store, emit, environ=os.environ)
    if fault:
        found = [each._replace(why=fault.message) if not each.works and each.name in AUTO else each
                 for each in found]  # fmt: skip
    chosen = next((name for name, works, _ in found if works and name in AUTO), None)
    private = private_network(chosen, store, emit, environ=os.environ) if chosen else None
    emulated = {name: emulation(name, store.temporary) for name in EMULATED}
    store.close()
    if arguments.json:
        executors = [{"name": name, "works": works, "why": why} for name, works, why in found]
        document = {
            "executors": executors,
            "auto": chosen,
            "private_network": private and {"works": private.works, "why": private.why},
            "platforms": [
                {"platform": f"linux/{name}", "works": each.works, "why": each.why}
                for name, each in emulated.items()
            ],
            "store": store.root,
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 0 if chosen else 1
    for name, works, why in found:
        sys.stdout.write(f"{name:<8} {'works' if works else f'does not work: {why}'}\n")
    sys.stdout.write(
        f"`--executor auto` takes {chosen}\n"
        if chosen
        else "no executor works here: file steps can be built, command steps cannot\n"
    )
    if private:
        said = f"works {private.why}" if private.works else f"does not work: {private.why}"
        sys.stdout.write(f"`network: private` {said}\n")
    if not chosen and fault and fault.hint:
        sys.stdout.write(f"hint: {fault.hint}\n")
    for name, each in emulated.items():
        if each.works and each.why != NOT_TRIED:
            sys.stdout.write(f"linux/{name:<9} runs on {each.why}\n")
    others = [name for name, each in emulated.items() if not each.works]
    if others:
        sys.stdout.write(f"no programs for {', '.join(others)}: {emulated[others[0]].why}\n")
        sys.stdout.write(f"hint: {hint_for(Platform('linux', others[0]))}\n")
    sys.stdout.write(f"store: {store.root}\n")
    return 0 if chosen else 1
