"""One run from its settings to its row on disk.

`run.train` is the page to read: identity, lock, checkers, data, training, model and row, top to bottom. In come
the settings of `config.schema.Run`; out goes a row in the outputs folder (`store.Store`), whose parts `record`
makes. `seed_stack` trains runs that differ in their seed alone at once.
"""
