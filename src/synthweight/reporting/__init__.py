"""What the rows say: statistics, tables, charts."""
