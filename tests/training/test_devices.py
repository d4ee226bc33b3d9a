"""What a machine is taken to have."""

import subprocess
from pathlib import Path

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


def test_a_cpu_has_the_name_and_the_units_that_the_system_says():
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    model = subprocess.run(["lscpu"], capture_output=True, text=True).stdout
    name, _, units = devices.cpu_name().partition(" with ")
    assert f"{name}\n" in model
    assert units == next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), "")
