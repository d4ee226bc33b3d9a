"""`import synthweight`, and the package as a program."""

import subprocess
import sys

import pytest

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
    assert (done.returncode, done.stdout) == (0, f"synthweight {synthweight.__version__}\n"), done.stderr
