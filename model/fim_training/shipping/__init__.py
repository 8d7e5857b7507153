"""What turns a trained checkpoint into one that ships: calibration, card, merging."""
