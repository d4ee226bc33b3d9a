"""Many runs: which, in what order, by whom."""
