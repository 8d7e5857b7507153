"""Operations of the forward pass, one file each: the plain PyTorch form that every fast path must equal."""
