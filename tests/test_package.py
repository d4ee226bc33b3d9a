"""`import synthweight`, and the package as a program."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import synthweight


def test_everything_that_is_offered_is_there():
    for name in synthweight.__all__:
        assert getattr(synthweight, name) is not None
        assert name in dir(synthweight)
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        _ = synthweight.fitt


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import synthweight; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert imported - sys.stdlib_module_names == {"synthweight"}


def test_the_package_is_a_program():
    done = subprocess.run([sys.executable, "-m", "synthweight", "--version"], capture_output=True, text=True)
    expected = rf"synthweight {synthweight.__version__}, commit ([0-9a-f]{{10}}(-dirty)?|unknown), torch \S+, device .+\n"
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(expected, done.stdout)


def test_one_version_everywhere():
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == citation["version"] == synthweight.__version__
    assert citation["license"] == project["license"]
