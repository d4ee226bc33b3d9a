"""The keys of a row."""

M = {"accuracy", "macro_f1", "nll", "ece", "per_class"}
KEYS = {
    "format", "id", "settings_id", "version", "kind", "config", "labels", "data", "checkers", "epochs", "selected_epoch",
    "guard_hits", "seconds", "provenance", "parquet_sha256", "temperatures",
}  # fmt: skip
