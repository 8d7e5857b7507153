"""Operations of the forward pass, one file each, in plain PyTorch: what fast paths must equal."""
