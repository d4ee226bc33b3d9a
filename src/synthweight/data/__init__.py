"""Texts with labels: read, checked, hashed, split, subset, tokenised, batched. Nothing here knows a loss.

In come files, or a benchmark's name; out go a run's examples (`sources.build_run_data`), their token ids
(`tokenization`) and its batches (`batching`). `benchmarks` looks for a split on disk before it is fetched.
"""
