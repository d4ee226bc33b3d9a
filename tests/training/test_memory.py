"""A batch that does not fit into memory: a size that does is named, and it does."""

import dataclasses
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from support.training import material_of
from synthweight.data.tokenization import Tokens
from synthweight.errors import memory_full
from synthweight.models import classifier
from synthweight.training import memory

BATCH = Tokens.batch

SCRIPT = """
import pickle, resource, sys
from pathlib import Path
from synthweight.training import trainer as fit
from synthweight.errors import UserError
small, training = pickle.loads(Path(sys.argv[1]).read_bytes())
fit.fit(small)  # everything that a first training brings along
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 600 * 2**20,) * 2)
try:
    fit.fit(training)
except UserError as error:
    print(error)
else:
    print("trained")
"""


def in_little_memory(file, small, training) -> str:
    """What comes of a training in a process that may have 600 MiB more than it has after a small one."""
    file.write_bytes(pickle.dumps((small, training)))
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow  # with little address space something small fails now and then before the batch does
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("packing", ["false", "true"])
def test_a_batch_that_does_not_fit_names_one_that_does(bound, tmp_path, packing):
    """One line, and the size that it names trains."""
    small = material_of(bound("loss=ce", "optim.epochs=1", "trainer.threads=1", f"trainer.packing={packing}"))
    (tokens, targets), times = small.train, 400
    offsets = np.concatenate([[0], np.cumsum(np.tile(tokens.lengths, times))])
    many = Tokens(np.tile(tokens.ids, times), np.tile(tokens.types, times), offsets, tokens.pad)
    made = dataclasses.replace(small, train=(many, np.tile(targets, times)))

    def of(size):
        return dataclasses.replace(made, optim=dataclasses.replace(made.optim, batch_size=size))

    said = in_little_memory(tmp_path / "made", small, of(32768))
    found = re.fullmatch(r"optim.batch_size=32768 does not fit into the memory of this cpu; optim.batch_size=(\d+) does", said)
    assert found, said
    assert 2000 < int(found[1]) < 32768
    assert in_little_memory(tmp_path / "made", small, of(int(found[1]))) == "trained"


def test_what_is_taken_for_it():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**48)
    assert memory_full(error.value)
    assert memory_full(torch.OutOfMemoryError("CUDA out of memory"))
    assert not memory_full(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(("packing", "evaluated"), [("false", 64), ("true", 64), ("true", 50)])
def test_the_largest_half_that_fits_is_named(bound, monkeypatch, packing, evaluated):
    """The steps are real, and the evaluation's batches, which no batch size makes smaller; where they find no memory is
    said by a network that asks for more than there is."""
    made = material_of(bound("loss=ce", "optim.batch_size=40", f"trainer.packing={packing}"))
    build = classifier.build

    def greedy(*arguments):
        network = build(*arguments)
        limit = {True: 12, False: evaluated}
        network.get_input_embeddings().register_forward_hook(
            lambda *_: torch.empty(2**48 if sizes[-1] > limit[network.training] else 1) and None
        )
        return network

    sizes = []
    monkeypatch.setattr(classifier, "build", greedy)
    monkeypatch.setattr(Tokens, "batch", lambda self, index: sizes.append(len(index)) or BATCH(self, index))
    said = str(memory.too_large(made, torch.device("cpu"), "32", "no memory"))
    begun = "optim.batch_size=40 does not fit into the memory of this cpu"
    if evaluated == 64:
        assert said == f"{begun}; optim.batch_size=10 does"
        assert sizes == [25, 12, 45, 60]
    else:
        assert said.startswith(f"{begun}, and no smaller one does (no memory): take a smaller encoder")
        assert sizes == [25, 12, 45, 60, 6, 45, 60, 2, 45, 60, 1, 45, 60]


FAULTS = """
import resource, sys, torch
from synthweight.models import classifier as model
if sys.argv[1] == "held":
    model.hold_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20
def use(): return [torch.ones(4 * 2**20 // 4) for _ in range(40)]
kept = use()
del kept[1:]
before = faults()
for _ in range(5):
    use()
print(faults() - before, resident())
model.release_memory()
print(resident())
"""


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(classifier.glibc() is None, reason="glibc's own")
@pytest.mark.skipif(HUGE.is_file() and "[always]" in HUGE.read_text(), reason="few pages, and large")
def test_what_is_freed_is_held_until_it_is_released():
    """Five times 160 MiB, of which each page would be asked for anew."""
    found = {}
    for way in ("held", "plain"):
        done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
        found[way] = [int(value) for value in done.stdout.split()]
    faults, resident, released = found["held"]
    assert faults < found["plain"][0] / 3
    assert released < resident - 120
