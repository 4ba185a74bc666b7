"""What pyproject.toml declares is imported, and what is imported is declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLUGIN_OF = {"pytest"}  # which imports the plugin, and is there then
NAMESPACES = {"backports"}  # several distributions share the name


def imported() -> set[str]:
    """Third-party modules that the builder imports anywhere, namespaces with their second part."""
    names = set[str]()
    for path in (ROOT / "builder").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = {*sys.stdlib_module_names, "compression", "builder", "_typeshed"}  # compression: of 3.14
    outside = {name.split(".")[0] for name in names} - own - NAMESPACES
    spaced = {".".join(name.split(".")[:2]) for name in names if name.split(".")[0] in NAMESPACES}
    return outside | spaced


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {normal(re.split(r"[\s<>=!;\[]", each)[0]) for each in project["dependencies"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(module: str) -> str:
    top = module.split(".", maxsplit=1)[0]
    if top in NAMESPACES:
        return normal(module)
    return normal(packages_distributions().get(top, [top])[0])


def test_dependencies_are_imported_and_imports_are_declared() -> None:
    assert {distribution(module) for module in imported()} - PLUGIN_OF == declared()
