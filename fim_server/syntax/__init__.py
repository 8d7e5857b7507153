"""Syntax of source text: languages, definitions, signatures, occurrences of a name."""
