"""The GPU's benchmark at toy size, on a CPU: it ends well, and within its time."""

import json
import subprocess
import sys

import pytest

from synthweight.config.schema import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def measured(folder, *options):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--toy", "--out", folder, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    return done, json.loads((folder / "gpu.json").read_text())


def test_every_part_finds_its_figures(tmp_path):
    parts = ["check", "ours", "small", "at_once", "ratios", "stacked", "eager"]
    done, found = measured(tmp_path, "--minutes", "8", "--parts", *parts)
    assert done.returncode == 0, done.stderr
    assert [key for key in found if key.endswith("error")] == []
    assert found["check"]["passed"]
    for name in ("ours", "small", "small stacked", "at once", "stacked", "eager"):
        assert found[name]["steady"] > 0
        assert found[name]["seconds"] <= found[name]["whole"]  # fewer epochs than the whole has
    assert found["at once"]["processes"] == found["at once"]["ended"] == 4
    ratios = {loss: row["ratio"] for loss, row in found["ratios"].items()}
    assert ratios["ce"] == 1
    assert ratios["imp"] > ratios["dimp"]  # it trains a diversity checker besides
    table = (tmp_path / "gpu.md").read_text()
    assert table.splitlines()[0].startswith("device cpu, python")
    assert f"| ours | {found['ours']['steady']:.0f} |" in table


def test_without_time_it_says_so_and_ends(tmp_path):
    done, found = measured(tmp_path, "--minutes", "0.01", "--parts", "ours", "tuned")
    assert done.returncode == 1
    assert found["ours"] == found["tuned"] == {"error": "no time left"}
