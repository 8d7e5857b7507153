"""Which files may be read, and by what rules. The only room that opens a user's files."""
