"""The documentation site: built strictly, all pages in its menu, and as a reader's browser shows it."""

import re
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
