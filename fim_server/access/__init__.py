"""Which files may be read: the only room that opens files the user has not opened."""
