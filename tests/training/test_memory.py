"""A batch that does not fit into memory, and memory that is held and released."""

import dataclasses
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from support.training import training_job
from synthweight.data.tokenization import TokenizedTexts
from synthweight.errors import memory_full
from synthweight.training import memory

SCRIPT = """
import pickle, resource, sys
from pathlib import Path
from synthweight.training.trainer import fit
from synthweight.errors import UserError
small, training = pickle.loads(Path(sys.argv[1]).read_bytes())
fit(small)  # everything that a first training brings along
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 600 * 2**20,) * 2)
try:
    fit(training)
except UserError as error:
    print(error)
else:
    print("trained")
"""


def in_little_memory(file, small, training) -> str:
    """What comes of a training in a process that may have 600 MiB more than it has after a small one."""
    file.write_bytes(pickle.dumps((small, training)))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow  # with little address space something small fails now and then before the batch does
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_batch_that_does_not_fit_is_said_in_one_line(bound, tmp_path):
    small = training_job(bound("loss=ce", "optim.epochs=1", "trainer.threads=1"))
    (tokens, targets), times = small.train, 400
    offsets = np.concatenate([[0], np.cumsum(np.tile(tokens.lengths, times))])
    many = TokenizedTexts(np.tile(tokens.ids, times), np.tile(tokens.types, times), offsets, tokens.pad)
    optim = dataclasses.replace(small.optim, batch_size=32768)
    made = dataclasses.replace(small, train=(many, np.tile(targets, times)), optim=optim)
    said = in_little_memory(tmp_path / "made", small, made)
    assert re.fullmatch(r"out of memory on this cpu \(.*\): lower optim.batch_size=32768", said), said


def test_what_is_taken_for_it():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**48)
    assert memory_full(error.value)
    assert memory_full(torch.OutOfMemoryError("CUDA out of memory"))
    assert not memory_full(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


FAULTS = """
import resource, sys, torch
from synthweight.training import memory
if sys.argv[1] == "held":
    memory.hold_memory()
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20
def use(): return [torch.ones(4 * 2**20 // 4) for _ in range(40)]
kept = use()
del kept[1:]
before = faults()
for _ in range(5):
    use()
print(faults() - before, resident())
memory.release_memory()
print(resident())
"""


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(memory.glibc() is None, reason="glibc's own")
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
