"""Sources and corpus: what is trained on."""
