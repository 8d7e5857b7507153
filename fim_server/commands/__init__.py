"""The commands of `fim-server`, one module per command, imported when the command runs."""
