"""The checkpoints this package can load: one row of data per architecture."""
