"""Many runs: which, in what order, by whom.

Hydra's launcher gives each job to `worker`; `processes` starts several workers on one machine.
"""
