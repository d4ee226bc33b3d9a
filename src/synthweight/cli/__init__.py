"""The command line: `parser` names the module of each command, whose `run` carries it out; `main` handles errors.

Importing this package sets the wait policy of OpenMP's threads. It is done here, not in `main`, because a launcher's
process (joblib, submitit, Ray on another machine) never calls `main`: it imports the function that trains one
job from this package, and may have another environment than the process that submitted it. Nothing here may
import torch before.
"""

from .wait_policy import set_wait_policy

set_wait_policy()
