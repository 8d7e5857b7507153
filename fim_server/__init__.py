"""fim-server: a language server for fill-in-the-middle completions and next edits."""
