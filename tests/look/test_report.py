"""The report in a real Chromium: what it says, by mouse and by keyboard, and how fast it draws."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.look.report import page
from tests.cli.conftest import Project, project

pytestmark = pytest.mark.needs("chromium", "chromedriver")
__all__ = ["project"]

HOSTILE = "<img src=x onerror=document.title='broken'>"
SPEC = f"""\
from: scratch
config:
  env: {{HINT: "</script><script>document.title='broken'</script>"}}
  entrypoint: [/srv/big]
steps:
  - {{name: "all of it", copy: src/, dest: /srv/}}
  - {{name: modes, copy: src/big, dest: /srv/big, mode: "0600"}}
  - {{name: again, file: /srv/page, content: other}}
  - {{name: gone, remove: /srv/old}}
  - {{name: hostile, file: "/srv/{HOSTILE}", content: four}}
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for each in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "disable-dev-shm-usage", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{each}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


def text(browser: Any, selector: str) -> list[str]:
    from selenium.webdriver.common.by import By

    return [each.text for each in browser.find_elements(By.CSS_SELECTOR, selector)]


def shown(browser: Any, path: Path, width: int = 1300) -> None:
    """The page, drawn, without an error and no wider than the window."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(width, 1000)
    browser.get(path.as_uri())
    WebDriverWait(browser, 120).until(
        lambda it: it.execute_script(
            "return [...document.querySelectorAll('canvas')].every(each => each.dataset.drawn)"
        )
    )
    assert not [each for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) <= 0


@pytest.fixture
def built(project: Project) -> Project:
    for name, content in (("big", "x" * 20_000), ("page", "y" * 300), ("old/one", "z" * 1000)):
        project.file(f"src/{name}", content)
    project.spec("site", SPEC)
    project.spec("small", "from: scratch\nsteps:\n  - {file: /srv/page, content: small}\n")
    return project


def test_a_report_says_what_is_there_and_what_is_wasted(built: Project, browser: Any) -> None:
    made = built.run("report", "site", "-o", "site.html")
    assert made.stdout == "site.html\n"
    shown(browser, built.root / "site.html")
    assert browser.title == "site: image report"
    cards = dict(each.split("\n")[::-1] for each in text(browser, ".card"))
    assert (cards["layers"], cards["of files"]) == ("5", "20.0 kB")
    assert cards["wasted"] == "21.3 kB"
    groups = text(browser, "summary")
    assert groups[0] == "20.0 kB in 1 file of 1. all of it: attributes changed by 2. modes"
    assert groups[1] == "1.0 kB in 1 file of 1. all of it: removed by 4. gone"
    assert groups[2] == "300 B in 1 file of 1. all of it: written again by 3. again"
    steps = text(browser, "table[aria-label=Steps] tbody tr")
    assert [each.split("\n")[0] for each in steps] == [
        "1. all of it", "2. modes", "3. again", "4. gone", "5. hostile",
    ]  # fmt: skip
    assert all("built, made " in each for each in steps)
    config = text(browser, "table[aria-label=Config] tbody tr")
    assert any("</script><script>" in each for each in config)
    assert any(HOSTILE in each for each in page_source(browser))


def page_source(browser: Any) -> list[str]:
    """What stands in the list below the treemap once `srv` is open."""
    press(browser, "Enter")
    return text(browser, "table[aria-label='The largest here'] tbody tr")


def press(browser: Any, *names: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    canvas = browser.find_element(By.TAG_NAME, "canvas")
    canvas.send_keys(*(getattr(Keys, name.upper()) for name in names))


def test_it_works_by_keyboard_and_by_mouse(built: Project, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    built.run("report", "site", "-o", "site.html")
    shown(browser, built.root / "site.html", width=420)  # a phone's
    here = "nav[aria-label='Open folder']"
    assert text(browser, here) == ["all"]
    press(browser, "Enter")
    assert text(browser, here) == ["all / srv"]
    press(browser, "Arrow_Down", "Arrow_Down")
    assert f"srv/{HOSTILE}" in text(browser, ".told")[1]
    press(browser, "Backspace")
    assert text(browser, here) == ["all"]
    for by, first in (("package", "(no package)/"), ("step", "2. modes/"), ("folder", "srv/")):
        radio = browser.find_element(By.CSS_SELECTOR, f"input[value={by}]")
        radio.send_keys(Keys.SPACE)
        row = text(browser, "table[aria-label='The largest here'] tbody tr")[0]
        assert row.startswith(first), row
    browser.find_element(By.CSS_SELECTOR, "table[aria-label='The largest here'] button").click()
    assert text(browser, here) == ["all / srv"]
    browser.find_element(By.CSS_SELECTOR, f"{here} button").click()
    assert text(browser, here) == ["all"]
    layer = browser.find_elements(By.CSS_SELECTOR, ".bar button")[0]
    layer.send_keys(Keys.ENTER)
    assert layer.get_attribute("aria-pressed") == "true"
    assert text(browser, ".told")[0].startswith("1. all of it ")
    summary = browser.find_element(By.TAG_NAME, "summary")
    summary.send_keys(Keys.ENTER)
    assert any("owner" in each for each in text(browser, "details p"))


def test_two_images_beside_one_another(built: Project, browser: Any) -> None:
    built.run("report", "site", "small", "-o", "two.html")
    shown(browser, built.root / "two.html", width=1500)
    assert text(browser, "article h2") == ["site", "small"]
    assert text(browser, "section h2") == ["From site to small"]
    rows = text(browser, "table[aria-label='Files that differ'] tbody tr")
    assert rows[0] == "/srv/big removed −20.0 kB"


def test_fifty_thousand_files_are_drawn_within_a_second(tmp_path: Path, browser: Any) -> None:
    """The time from the numbers to the picture. The best of five: others use the machine."""
    rng = random.Random(5)
    folders = [
        [f"folder{a}", [[f"inner{b}", [
            [f"file{c}", rng.randrange(1, 1 << rng.randrange(4, 24)), rng.randrange(20), -1]
            for c in range(50)]] for b in range(25)]] for a in range(40)
    ]  # fmt: skip
    layers = [{"digest": f"sha256:{n}", "size": 1000, "bytes": 1000, "files": 9} for n in range(20)]
    steps = [{"layer": n, "name": f"step {n}", "command": ""} for n in range(20)]
    document = {
        "name": "many", "digest": "sha256:0", "platform": "linux/amd64", "created": None,
        "layers": layers, "steps": steps, "built": None, "tree": ["", folders], "packages": [],
        "unread": [], "waste": {"bytes": 0, "groups": []}, "config": [],
    }  # fmt: skip
    path = tmp_path / "many.html"
    path.write_text(page([json.loads(json.dumps(document))]))
    best = None
    for _ in range(5):
        shown(browser, path)
        took, boxes = browser.execute_script(
            "const it = document.querySelector('canvas').dataset;"
            "return [Number(it.drawn), Number(it.boxes)]"
        )
        best = min(best or took, took)
        if best < 1000:
            break
    assert boxes > 5000
    assert best is not None and best < 1000


def test_what_is_wrong_is_said_in_a_line(built: Project) -> None:
    assert "no image 'sitte'" in built.run("report", "sitte", status=2).stderr
    assert "cannot be written" in built.run("report", "site", "-o", "no/where", status=2).stderr
    assert built.run("report", "small", "-o", "-").stdout.startswith("<!doctype html>")
