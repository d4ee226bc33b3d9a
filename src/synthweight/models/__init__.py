"""Which network, and its forward pass.

In come an encoder's files (`pretrained` finds and hashes them, `weights` reads them); out goes a classifier of
transformers (`classifier`) with its optimizer (`optim`). `packed` computes its passes without padding.
"""
