"""What a measurement says: numbers with errors, doubts, tables and figures."""
