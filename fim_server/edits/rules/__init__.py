"""What follows from an edit, one file a rule."""
