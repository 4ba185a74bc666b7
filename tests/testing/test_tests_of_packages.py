"""Tests of packages: names, versions as globs, managers. What the databases hold is read by
`look`, whose tests hold it against dpkg, rpm, pip and npm."""

from __future__ import annotations

import json

from tests.cli.conftest import Project

STATUS = """\
Package: nginx
Status: install ok installed
Version: 1.22.1-9+deb12u1
Architecture: amd64

Package: gone
Status: deinstall ok config-files
Version: 1.0
Architecture: amd64
"""
SITE = "usr/lib/python3/dist-packages"
FILES = {
    "var/lib/dpkg/status": STATUS,
    f"{SITE}/zope_interface-5.4.dist-info/METADATA": "Name: Zope.Interface\nVersion: 5.4\n",
    f"{SITE}/nginx-0.1.dist-info/METADATA": "Name: nginx\nVersion: 0.1\n",
    "usr/lib/node_modules/@a/b/package.json": '{"name": "@a/b", "version": "2.0.0"}',
}
HOLDS = {
    "{package: nginx}": "",
    "{package: nginx, version: 1.22.*}": "",
    "{package: nginx, version: '0.1'}": "",
    "{package: nginx, version: '0.1', manager: pip}": "",
    "{package: nginx, version: '0.1', manager: dpkg}": (
        "its version is 1.22.1-9+deb12u1 (dpkg, /var/lib/dpkg/status), expected 0.1"
    ),
    "{package: nginx, manager: apk}": "apk does not have it",
    "{package: nginx, manager: apk, installed: false}": "",
    "{package: nginx, installed: false}": "it is installed, expected that it is not: 1.22.1-9",
    "{package: gone}": "it is not installed",
    "{package: gone, installed: false}": "",
    "{package: zope-interface, manager: pip}": "",
    "{package: Zope.Interface}": "",
    "{package: '@a/b', version: '2.*'}": "",
    "{package: b, manager: npm}": "npm does not have it",
    "{package: ngnix}": "it is not installed, did you mean 'nginx'?",
}


def test_packages_are_known_by_name_version_and_manager(project: Project) -> None:
    steps = [{"file": f"/{path}", "content": text} for path, text in FILES.items()]
    document = {"from": "scratch", "steps": steps, "tests": ["@"]}
    text = json.dumps(document).replace('["@"]', f"[{', '.join(HOLDS)}]")
    project.spec("a", text)
    found = json.loads(project.run("test", "--json", status=1).stdout)["tests"]
    said = [each.get("why", "") for each in found]
    assert len(said) == len(HOLDS)
    for why, (test, expected) in zip(said, HOLDS.items(), strict=True):
        assert why.startswith(expected) and bool(why) == bool(expected), (test, why)
