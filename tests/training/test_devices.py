"""What a machine is taken to have."""

import pytest
import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from support.training import training_job
from synthweight.errors import UserError
from synthweight.training import devices, trainer
from synthweight.training.reporter import RunReporter


@pytest.fixture
def apples(monkeypatch):
    """A machine with Apple's GPU and no other."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: False))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))


def test_lightning_trains_where_the_row_says(apples, bound):
    trainer.silence_lightning()
    made = bound("trainer.accelerator=auto")
    assert devices.machine(made.trainer, {})["device"] == {"kind": "cpu", "name": devices.cpu_name()}
    assert trainer.lightning_trainer(training_job(made), RunReporter()).strategy.root_device.type == "cpu"


def test_a_gpu_by_any_name_is_cudas(apples):
    with pytest.raises(UserError, match=r"trainer\.accelerator=gpu: this machine has none"):
        devices.require_device("gpu")
    devices.require_device("mps")
    assert devices.device("mps").type == "mps"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (
            "model name\t: Some CPU\nflags\t\t: fpu avx512_bf16 amx_bf16\n\nmodel name\t: Some CPU\n",
            "Some CPU with amx_bf16",
        ),
        ("model name\t: Another\nflags\t\t: fpu avx512_bf16\n", "Another with avx512_bf16"),
        ("model name\t: Old\nflags\t\t: fpu\n", "Old"),
        ("processor\t: 0\nFeatures\t: fp bf16\n", "cpu with bf16"),
    ],
)
def test_a_cpu_has_its_model_and_its_units_as_name(monkeypatch, content, name):
    monkeypatch.setattr(devices.Path, "read_text", lambda path, encoding: content)
    assert devices.cpu_name.__wrapped__() == name
