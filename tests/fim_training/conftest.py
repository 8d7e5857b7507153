"""Tiny models, a tiny tokenizer, tiny sources: shared by the tests of this package."""

from tiny_models import one_thread, tiny, tiny_tokenizer, tiny_tokenizer_file

__all__ = ["one_thread", "tiny", "tiny_tokenizer", "tiny_tokenizer_file"]
