"""The command line, `pgjax`: one module per command."""
