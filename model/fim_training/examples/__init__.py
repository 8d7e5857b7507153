"""From source files to training examples: holes and edits."""
