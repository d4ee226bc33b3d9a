"""Builds the documentation site: `make docs`, or `python docs/build.py [FOLDER]`.

The pages are copied to a temporary folder first. There CONTRIBUTING.md and CHANGELOG.md are pages too, and a link to a file
outside docs/ becomes the file's name. Zensical builds the copy; a broken link or anchor ends the build.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")  # pages of the site that lie in the repository's root
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")

SHIM = "https://unpkg.com/iframe-worker/shim"
WORKER = """if (location.protocol === "file:") {
  const Worker = window.Worker, source = %s;
  window.Worker = function () { return new Worker(URL.createObjectURL(new Blob([source]))); };
}
"""


def local_links(text: str, page: Path, docs: Path) -> str:
    """The page with its links as the site has them. A picture from outside docs/ is copied to the site's assets.

    Args:
        text: Markdown.
        page: The file that the text is from.
        docs: The site's copy of docs/.

    Raises:
        SystemExit: A link leads to a file that does not exist.
    """
    base = page.parent if page.is_relative_to(DOCS) else DOCS

    def replaced(link: re.Match[str]) -> str:
        picture, label, target, anchor = link[1], link[2], (page.parent / link[3]).resolve(), link[4] or ""
        if not target.exists():
            sys.exit(f"{page.relative_to(ROOT)}: {link[3]}: no such file")
        if target.parent == ROOT and target.name in ROOT_PAGES:
            target = DOCS / target.name.lower()
        elif picture and not target.is_relative_to(DOCS):
            shutil.copy(target, docs / "assets")
            target = DOCS / "assets" / target.name
        if target.is_relative_to(DOCS):
            return f"{picture}[{label}]({os.path.relpath(target, base)}{anchor})"
        return f"{label} (`{target.relative_to(ROOT)}`)"

    return LINK.sub(replaced, text)


def copy_pages(folder: Path) -> None:
    """Copies everything that the site is built from.

    Args:
        folder: An empty folder, which gets `zensical.toml` and `docs/`.
    """
    shutil.copy(DOCS / "zensical.toml", folder)
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("*.py", "*.toml", "__pycache__"))
    (folder / "src").symlink_to(ROOT / "src")  # the docstrings of the API reference
    pages = {path: path.relative_to(DOCS) for path in DOCS.rglob("*.md")}
    pages |= {ROOT / name: Path(name.lower()) for name in ROOT_PAGES}
    for source, page in pages.items():
        text = local_links(source.read_text(encoding="utf-8"), source, folder / "docs")
        (folder / "docs" / page).write_text(text, encoding="utf-8")


def serve_search_from_files(site: Path) -> None:
    """Makes the search work in pages that are opened from a folder, without a network.

    A browser starts no worker from a file. Zensical loads a script from a CDN for that; ours starts the worker from its text.

    Args:
        site: The folder of the built site.
    """
    (worker,) = (site / "assets" / "javascripts" / "workers").glob("search.*.js")
    text = WORKER % json.dumps(worker.read_text(encoding="utf-8")).replace("</", "<\\/")
    (site / "assets" / "search-worker.js").write_text(text, encoding="utf-8")
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        if html.count(SHIM) != 1:
            sys.exit(f"{page.relative_to(site)}: Zensical has changed how it loads {SHIM}")
        own = os.path.relpath(site / "assets" / "search-worker.js", page.parent)
        page.write_text(html.replace(SHIM, own), encoding="utf-8")


def run_zensical(folder: Path) -> int:
    """Builds `folder/html` and returns the exit status: not 0 after a warning or an error, which is printed.

    Args:
        folder: What `copy_pages` has filled.
    """
    command = ["zensical", "build", "--strict", "--config-file", str(folder / "zensical.toml")]
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, check=False).returncode


def build(out: Path) -> None:
    """Builds the site.

    Args:
        out: The folder of the site; what it had is replaced.

    Raises:
        SystemExit: The build has a warning or an error, which Zensical has printed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        copy_pages(folder)
        if code := run_zensical(folder):
            sys.exit(code)
        serve_search_from_files(folder / "html")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder / "html", out)
    print(f"the site is in {out}: open {out / 'index.html'}")


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site"))
