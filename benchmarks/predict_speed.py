"""Texts per second of `synthweight predict` beside transformers' pipeline with its best batch size.

Both on the same texts, in fp32, on the same threads; the probabilities are compared. The file is read before.

    python benchmarks/predict_speed.py my_model new.jsonl --n 2000
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
from transformers import pipeline

from synthweight.data.readers import iter_rows
from synthweight.workbench.predict import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path, help="rows with `text`")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64, 128])
    options = parser.parse_args()
    texts = [row["text"].strip() for _, row in itertools.islice(iter_rows(options.file), options.n)]
    predictor = Predictor(options.model)
    predictor.log_probs(texts[:64])  # warm
    begun = time.perf_counter()
    ours = np.exp(predictor.log_probs(texts))
    own = len(texts) / (time.perf_counter() - begun)
    print(f"synthweight: {own:.0f} texts per second")
    classify = pipeline("text-classification", model=str(options.model), top_k=None)
    best = 0.0
    for size in options.batch_sizes:
        begun = time.perf_counter()
        scores = classify(texts, batch_size=size, truncation=True)
        rate = len(texts) / (time.perf_counter() - begun)
        best = max(best, rate)
        print(f"pipeline, batch size {size}: {rate:.0f} texts per second", flush=True)
    by_label = [{s["label"]: s["score"] for s in row} for row in scores]
    theirs = np.array([[row[label] for label in predictor.labels] for row in by_label])
    difference = np.abs(ours - theirs).max()
    print(f"ratio to the best: {own / best:.2f}; largest difference of a probability {difference:.1e}")


if __name__ == "__main__":
    main()
