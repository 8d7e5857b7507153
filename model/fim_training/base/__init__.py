"""What training starts from: tokenizer and base checkpoint."""
