"""The findings of a measurement: numbers with errors, doubts, tables and figures."""
