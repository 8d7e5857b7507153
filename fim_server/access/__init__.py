"""Which files may be read, by what rules. The only room that opens files the user did not."""
