"""The documentation site: built strictly, all pages in its menu, and as a reader's browser shows it."""

import re
import runpy
import subprocess
import sys
import tomllib

import pytest

from support.browser import CONTRAST, NO_CHROMIUM, Browser
from synthweight.config.schema import ROOT

DOCS = ROOT / "docs"


def menu(entries):
    """The pages of the site's menu, in order."""
    for entry in entries:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else menu(target)


MENU = list(menu(tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))
PAGES = [page.removesuffix(".md") + ".html" for page in MENU]

SEARCH = (
    "[...document.querySelectorAll('*')].find(element => element.shadowRoot)?.shadowRoot"  # where it is shown
)

BRIGHTNESS = "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).reduce((a, b) => a + b / 765, 0)"


def build(out):
    return subprocess.run(
        [sys.executable, DOCS / "build.py", out], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "site"
    done = build(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def test_every_page_is_in_the_menu(site):
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | {
        "contributing.md",
        "changelog.md",
    }
    assert sorted(MENU) == sorted(written)
    assert all((site / page).is_file() for page in PAGES)


def test_nothing_is_loaded_from_elsewhere(site):
    for page in PAGES:
        html = (site / page).read_text(encoding="utf-8")
        assert not re.search(
            r'<(script|img|iframe)[^>]*src="?https?:|<link[^>]*rel="?(stylesheet|preconnect)[^>]*https?:',
            html,
        )


def test_links_that_leave_the_folder(tmp_path):
    (tmp_path / "assets").mkdir()
    links = runpy.run_path(str(DOCS / "build.py"))["local_links"]
    page = DOCS / "notes" / "gpu.md"
    assert links("[a](../losses.md#ce)", page, tmp_path) == "[a](../losses.md#ce)"
    assert links("[a](../../CONTRIBUTING.md)", page, tmp_path) == "[a](../contributing.md)"
    assert (
        links("[a](../../Makefile), [b](https://x.y/z)", page, tmp_path)
        == "a (`Makefile`), [b](https://x.y/z)"
    )
    assert links("![a](../../LICENSE)", page, tmp_path) == "![a](../assets/LICENSE)"
    assert (tmp_path / "assets" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert links("[a](docs/losses.md)", ROOT / "CONTRIBUTING.md", tmp_path) == "[a](losses.md)"
    with pytest.raises(SystemExit, match=r"docs/notes/gpu.md: nothing.md: no such file"):
        links("[a](nothing.md)", page, tmp_path)


@pytest.mark.parametrize("broken", ["[x](losses.md#nothing)", "::: synthweight.losses.functional.nothing"])
def test_a_broken_reference_ends_the_build(tmp_path, broken):
    script = runpy.run_path(str(DOCS / "build.py"))
    script["copy_pages"](tmp_path)
    (tmp_path / "docs" / "index.md").write_text(broken + "\n")
    assert script["run_zensical"](tmp_path) != 0


@pytest.mark.browser
@NO_CHROMIUM
@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_read(browser, site, page):
    browser.open((site / page).as_uri())
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert browser.evaluate("document.querySelectorAll('img:not([alt]), img[alt=\"\"]').length") == 0
    for width, dark in [(1400, False), (1400, True), (360, True), (360, False)]:
        browser.show(width, dark)
        browser.wait(f"{BRIGHTNESS} {'<' if dark else '>'} 0.5")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(CONTRAST) == []


@pytest.mark.browser
@NO_CHROMIUM
def test_the_search_finds_a_page_without_a_network(browser, site):
    browser.open((site / "index.html").as_uri())
    browser.evaluate("document.querySelector('.md-search__button').click()")
    browser.wait(f"{SEARCH}?.querySelector('input')")
    browser.evaluate(f"""(() => {{
      const input = {SEARCH}.querySelector("input");
      input.value = "verdict";
      input.dispatchEvent(new Event("input", {{bubbles: true}}));
    }})()""")
    browser.wait(f"[...{SEARCH}.querySelectorAll('a')].some(found => found.href.includes('your-data.html'))")
    assert browser.errors == []
