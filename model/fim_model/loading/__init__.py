"""From a checkpoint's files or its name on the hub to a loaded network."""
