"""The real part of product_reviews: human-rated Amazon review sentences (Hutto & Gilbert 2014, MIT).

They lie in the source archive of a PyPI package, so that no model or data hub is needed.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ..errors import UserError
from .examples import write_jsonl

INNER, MEMBER = "additional_resources/hutto_ICWSM_2014.tar.gz", "amazonReviewSnippets_GroundTruth.txt"
TEST, TEST_AND_SMALL = 1200, 1500  # sentences: test is filled first, then small real; whole reviews


def fetch_reviews(package: str, version: str, sha256: str, folder: Path) -> None:
    """Downloads the archive by pip, by the user's own index settings, and writes the three real splits.

    Args:
        package: name of the package.
        version: its exact version.
        sha256: of the archive.
        folder: where the splits are written to.

    Raises:
        UserError: the package index cannot be reached, or the archive is not the one that was pinned.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
        command += ["--dest", scratch, f"{package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        archives = sorted(Path(scratch).glob("*.tar.gz"))
        if done.returncode or not archives:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(
                f"product_reviews: pip cannot download the source archive of {package} {version} ({last}); "
                f"go online once, or put small_real.jsonl, large_real.jsonl and test.jsonl into {folder}"
            )
        found = hashlib.sha256(archives[0].read_bytes()).hexdigest()
        if found != sha256:
            raise UserError(
                f"product_reviews: {archives[0].name} has SHA-256 {found}, expected {sha256}: not used"
            )
        for name, rows in split_reviews(read_archive(archives[0])).items():
            write_jsonl(folder / f"{name}.jsonl", rows)


def read_archive(archive: Path) -> str:
    """The ground-truth table (latin-1), from the archive within the archive.

    Args:
        archive: of the package.
    """
    with tarfile.open(archive) as outer:
        member = next(m for m in outer.getmembers() if m.name.endswith(INNER))
        inner_file = outer.extractfile(member)
        assert inner_file is not None
        with tarfile.open(fileobj=io.BytesIO(inner_file.read())) as inner:
            table = next(m for m in inner.getmembers() if Path(m.name).name == MEMBER)
            table_file = inner.extractfile(table)
            assert table_file is not None
            return table_file.read().decode("latin-1")


def split_reviews(table: str) -> dict[str, list[dict[str, str]]]:
    """The sentences of the table in three splits, each in the table's order.

    A rating ≥ 0.5 is positive, ≤ −0.5 negative, else neutral. Whole reviews (the id before `_`), in the order
    of the SHA-256 of that id, fill test to at least 1,200 sentences, then small real to 1,500 in all; the
    rest is large real.

    Args:
        table: lines of id, mean rating from −4 to 4, and text, separated by tabs.

    Returns:
        By split, the rows with `text` and `label`.
    """
    lines = [line.split("\t", 2) for line in table.splitlines() if line.strip()]
    sizes: dict[str, int] = {}
    for identity, _, _ in lines:
        review = identity.split("_")[0]
        sizes[review] = sizes.get(review, 0) + 1
    home: dict[str, str] = {}
    filled = 0
    for review in sorted(sizes, key=lambda r: hashlib.sha256(r.encode()).hexdigest()):
        home[review] = "test" if filled < TEST else "small_real" if filled < TEST_AND_SMALL else "large_real"
        filled += sizes[review]
    out: dict[str, list[dict[str, str]]] = {"small_real": [], "large_real": [], "test": []}
    for identity, rating, text in lines:
        value = float(rating)
        label = "positive" if value >= 0.5 else "negative" if value <= -0.5 else "neutral"
        out[home[identity.split("_")[0]]].append({"text": text.strip(), "label": label})
    return out
