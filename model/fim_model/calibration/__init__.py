"""How far to trust a score: confidence of completions, priors of edits."""
