"""What a text's syntax tells: languages, definitions, signatures, occurrences of a name."""
