"""Tokenizer and prompt: from text to the token ids that a model reads."""
