"""Compiled steps: the same training; eager, and said so, where compiling fails."""

import dataclasses
import shutil

import pytest
import torch

from conftest import equal, material_of
from synthweight import devices, estimate, fit, identity

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:dynamo_pgo force disabled")


@pytest.fixture
def training(bound, plain):
    """40 texts in batches of 15: batches of two sizes and many widths."""

    def make(*overrides):
        return material_of(
            bound(
                f"model.path={plain}",
                "optim.epochs=2",
                "optim.batch_size=15",
                "source.n=40",
                "trainer.precision=64-true",
                *overrides,
            )
        )

    return make


def compiled_of(made):
    return dataclasses.replace(made, trainer=dataclasses.replace(made.trainer, compile=True))


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler on this machine")
@pytest.mark.parametrize(
    "loss", ["dimp trainer.packing=true", pytest.param("hu loss.exact=false loss.alignment=jvp", marks=pytest.mark.slow)]
)
def test_a_compiled_training_is_the_eager_one(training, loss):
    made = training(*f"loss={loss}".split())
    compiled = fit.fit(compiled_of(made))
    assert not compiled.eager
    equal(fit.fit(made), compiled)


@pytest.mark.parametrize("packing", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_where_compiling_fails_it_runs_eager_and_says_so_once(training, packing):
    """As on a machine without a compiler: the training that it would have been, and the row says so."""
    made = training("loss=ce", f"trainer.packing={packing}")
    torch._dynamo.reset()  # what is compiled serves every training of the process
    broken = torch._inductor.config.patch({"force_disable_caches": True, "cpp.cxx": ("no-such-compiler",)})
    with broken, pytest.warns(UserWarning, match="trainer.compile: it fails for this encoder .*; it runs eager") as caught:
        fell = fit.fit(compiled_of(made))
    assert sum("trainer.compile" in str(w.message) for w in caught) == 1
    assert fell.eager
    assert devices.machine(made.trainer, eager=fell.eager)["device"]["compile"] is False
    assert "compile" not in devices.machine(made.trainer)["device"]
    equal(fit.fit(made), fell)


def test_compiling_is_part_of_the_identity(bound):
    """And rows written before there was such a setting keep their names."""
    plain, compiled = (identity.of(bound(f"trainer.compile={value}")) for value in ("false", "true"))
    assert plain.id != compiled.id
    assert "compile" not in plain.settings
    assert estimate.speed(dataclasses.asdict(plain.run)) != estimate.speed(dataclasses.asdict(compiled.run))
