"""The kinds of tables: a module per kind, each a function from rows to a table."""
