"""A checkpoint folder with random weights, which loads quickly and exercises every code path."""

from __future__ import annotations

from pathlib import Path


def write_tiny_checkpoint(folder: Path) -> Path:
    """Write a two-layer model with a tokenizer trained on this file; return the folder."""
    import torch
    from fim_model.loading.checkpoint import save_checkpoint
    from fim_model.loading.headers import TOKENIZER
    from fim_model.network.config import ModelConfig
    from fim_model.network.transformer import TriModeTransformer
    from fim_model.prompt.tokenizer import CodeTokenizer
    from fim_training.base.train_tokenizer import train

    folder.mkdir(parents=True, exist_ok=True)
    train([Path(__file__).read_text(encoding="utf-8")], 340).save(str(folder / TOKENIZER))
    tokenizer = CodeTokenizer.from_file(folder / TOKENIZER)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=40,
        mask_token_id=tokenizer.special.mask,
        block_size=4,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    model = TriModeTransformer(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    save_checkpoint(model, folder, dtype=torch.float32)
    return folder
