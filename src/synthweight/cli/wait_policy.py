"""How long OpenMP's threads spin while they wait for each other.

torch's wheels compute with libgomp, whose threads spin for some 3 ms at the end of every parallel region, and
there are thousands of regions per second. Where another process wants the cores, a thread that spins takes
time from one that works, and an epoch lasts many times longer.
"""

import os
from collections.abc import MutableMapping

SPIN = "2000"  # libgomp's own is 300000, about 3 ms; measured by benchmarks/busy.py
USERS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # one of these set by the user decides


def set_wait_policy(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set a short spin, unless the user has set a wait policy.

    libgomp reads the variable once, when it is loaded: call this before anything imports torch. Processes
    that are started later inherit it. Other OpenMP libraries than libgomp do not know the variable and keep
    their own policy.

    Args:
        environment: the process's environment variables.
    """
    if not any(name in environment for name in USERS):
        environment["GOMP_SPINCOUNT"] = SPIN
