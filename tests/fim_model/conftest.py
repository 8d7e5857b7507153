"""Fixtures of this package's tests: tiny models, a tiny tokenizer, tiny sources."""

from tiny_models import one_thread, tiny, tiny_tokenizer, tiny_tokenizer_file

__all__ = ["one_thread", "tiny", "tiny_tokenizer", "tiny_tokenizer_file"]
