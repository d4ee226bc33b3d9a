"""How long OpenMP's threads spin while they wait for each other.

torch's wheels compute with libgomp, whose threads spin for some 3 ms at the end of every parallel region, and
there are thousands of regions per second. Where another process wants the cores, a thread that spins takes
time from one that works, and an epoch lasts many times longer. Where nothing else runs, a thread that sleeps
must be woken, and an epoch lasts half as long again. `benchmarks/busy.py` measured both.
"""

import os
import time
from collections.abc import MutableMapping
from pathlib import Path

# about 0.1 ms: alone as fast as libgomp's own 300000, in a third of its time beside a busy process
IDLE_SPIN = "10000"
BUSY_SPIN = "1000"
LOOKS, PAUSE = 4, 0.003  # seconds between two looks at the load
USERS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # one of these set by the user decides
LOAD = Path("/proc/loadavg")  # Linux alone has it; libgomp is used by torch's wheels for Linux alone


def set_wait_policy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set a short spin, a shorter one on a busy machine, unless the user has set a wait policy.

    libgomp reads the variable once, when it is loaded: call this before anything imports torch. Processes
    that are started later inherit it. Other OpenMP libraries than libgomp do not know the variable and keep
    their own policy. Neither value changes a result.

    Args:
        environment: the process's environment variables.
    """
    if not any(name in environment for name in USERS):
        environment["GOMP_SPINCOUNT"] = BUSY_SPIN if machine_is_busy() else IDLE_SPIN


def machine_is_busy() -> bool:
    """Whether other processes compute now that this one's threads would have to share cores with.

    It looks several times: a process that is gone by the next look does not count. The first look that finds
    room ends it, so that an idle machine is not waited for.
    """
    if not LOAD.is_file():
        return False
    room = (os.cpu_count() or 1) - len(os.sched_getaffinity(0))
    for look in range(LOOKS):
        if look:
            time.sleep(PAUSE)
        running = LOAD.read_text().split()[3].split("/")[0]  # of "0.20 0.18 0.12 1/80 11206": run or want to
        if int(running) - 1 <= room:  # less this one
            return False
    return True
