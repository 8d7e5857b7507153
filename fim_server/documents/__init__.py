"""Open documents: text, lines and positions by LSP's rules; notebooks; minimal diffs."""
