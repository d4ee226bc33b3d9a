"""What do the rows say: tables, charts and the documents that show them.

A sweep's plan and the rows of its runs come in; tables with tests of their differences, figures, and
published files go out. Nothing is trained, and neither torch nor scikit-learn is imported for a table of
results. `charts` has the numbers of a figure, `plotting` draws them as files, `svg`
within the pages that `sweep_page` and `run_page` make.
"""
