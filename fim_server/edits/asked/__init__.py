"""What the user asks for in words: edits by instruction, and questions about code."""
