"""Compiled steps: the same training; eager, and said so, where compiling fails."""

import dataclasses
import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from support.training import equal, training_job
from synthweight.models import classifier, compile
from synthweight.runs.identity import identify
from synthweight.sweeps import estimate
from synthweight.training import devices, job, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.*:DeprecationWarning",
    "ignore:dynamo_pgo force disabled",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",  # dynamo's own, while it traces
)


@pytest.fixture
def training(bound, plain):
    """40 texts in batches of 15: batches of two sizes and many widths."""

    def make(*overrides):
        return training_job(
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


@pytest.mark.parametrize("padding", ["true", "false"])
def test_a_step_is_compiled_whole(bound, tiny, padding):
    """With dropout, as people train: one frame, and no break in it."""
    made = training_job(
        bound(f"model.path={tiny}", "optim.epochs=1", "source.n=40", f"trainer.padding={padding}")
    )
    torch._dynamo.reset()
    with job.built_network(compiled_of(made)) as (network, t):
        batch = t.train[0].batch([0, 1, 2])
        counters.clear()
        place, name = compile.compiled_attribute(network)
        getattr(place, name).fast = torch.compile(
            getattr(place, name).eager, dynamic=True, backend="aot_eager"
        )
        network(**classifier.inputs(batch)).logits.sum().backward()
    assert not counters["graph_break"]
    assert counters["frames"] == {"total": 1, "ok": 1}


def compiled_of(made):
    return dataclasses.replace(made, trainer=dataclasses.replace(made.trainer, compile=True))


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler on this machine")
@pytest.mark.parametrize(
    "loss",
    [
        "dimp",
        pytest.param(
            "hu loss.exact=false loss.alignment=difference trainer.padding=true", marks=pytest.mark.slow
        ),
    ],
)
def test_a_compiled_training_is_the_eager_one(training, loss):
    made = training(*f"loss={loss}".split())
    compiled = trainer.fit(compiled_of(made))
    assert compiled.fallbacks == {}
    equal(trainer.fit(made), compiled)


@pytest.mark.parametrize("padding", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_where_compiling_fails_it_runs_eager_and_says_so_once(training, padding, caplog):
    """As on a machine without a compiler: the training that it would have been, and the row says so."""
    made = training("loss=ce", f"trainer.padding={padding}")
    torch._dynamo.reset()  # what is compiled serves every training of the process
    broken = torch._inductor.config.patch({"force_disable_caches": True, "cpp.cxx": ("no-such-compiler",)})
    with broken:
        fell = trainer.fit(compiled_of(made))
    assert caplog.text.count("trainer.compile: compiling this encoder fails here") == 1
    assert fell.fallbacks == {"compile": False}
    assert devices.machine(made.trainer, fell.fallbacks)["fallbacks"] == {"compile": False}
    equal(trainer.fit(made), fell)


def test_past_the_limit_of_recompilations_it_begins_anew_once_then_runs_eager_and_says_so(
    bound, plain, caplog
):
    made = training_job(bound(f"model.path={plain}"))
    torch._dynamo.reset()
    with job.built_network(compiled_of(made)) as (network, t), torch._dynamo.config.patch(recompile_limit=1):
        pass_ = network.forward.logits
        pass_.fast = torch.compile(pass_.eager, dynamic=True, backend="eager")
        inputs = classifier.inputs(t.train[0].batch([0, 1, 2]))
        first = network(**inputs).logits
        with torch.no_grad():
            torch.testing.assert_close(network(**inputs).logits, first)
        assert pass_.was_reset
        assert not compile.fell_back(network)
        torch.testing.assert_close(network(**inputs).logits, first)
        assert "compiled again too often); it runs eager" in caplog.text
        assert compile.fell_back(network)


def test_compiling_is_part_of_the_identity(bound):
    plain, compiled = (identify(bound(f"trainer.compile={value}")) for value in ("false", "true"))
    assert plain.id != compiled.id
    assert estimate.size_key(estimate.as_row(plain.run)) != estimate.size_key(estimate.as_row(compiled.run))
