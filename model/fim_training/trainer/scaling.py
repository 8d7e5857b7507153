"""Which size learns most from given compute: `python -m fim_training.trainer.scaling --config …`.

Trains a model of each size for the same arithmetic, the smallest for `--tokens`, larger ones for
fewer, and writes `scaling.json` and a table. A size that was trained before is not trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from fim_model.errors import CheckpointError, ConfigError
from fim_model.loading.headers import parameter_count
from fim_model.network.config import ModelConfig
from fim_model.prompt.tokenizer import CodeTokenizer

from fim_training.trainer.throughput import step_flops
from fim_training.trainer.train import Run
from fim_training.trainer.train_config import TrainConfig

HEAD = 64
INNER = 2.75
"""Inner width of the feed-forward by the hidden one, as in the default model."""


@dataclass(frozen=True, slots=True)
class Result:
    """flops: of the whole run. Losses in nats per token on held-out projects."""

    size: str
    parameters: int
    steps: int
    tokens: int
    flops: float
    held_out_ar: float
    held_out_diffusion: float


def shaped(config: TrainConfig, size: str) -> TrainConfig:
    """The run of a size `HIDDENxLAYERS`. Raises ConfigError for another spelling."""
    hidden, _, layers = size.partition("x")
    if not (hidden.isdecimal() and layers.isdecimal() and int(layers) > 0):
        raise ConfigError(f"a size is HIDDENxLAYERS, as 256x8, not {size!r}")
    if int(hidden) < HEAD or int(hidden) % HEAD:
        raise ConfigError(f"the hidden size must be a multiple of {HEAD}, not {hidden}")
    heads = int(hidden) // HEAD
    return replace(
        config,
        hidden_size=int(hidden),
        layers=int(layers),
        heads=heads,
        kv_heads=heads // 2 if heads % 2 == 0 else heads,
        head_dim=HEAD,
        intermediate_size=round(INNER * int(hidden) / 32) * 32,
        out=str(Path(config.out) / size),
        minutes=0.0,
    )


def same_compute(
    runs: Sequence[TrainConfig], models: Sequence[ModelConfig], tokens: int
) -> list[TrainConfig]:
    """Each run with as many steps as cost what the cheapest run costs for `tokens` tokens."""
    costs = [_flops(run, model) for run, model in zip(runs, models, strict=True)]
    cheapest = min(range(len(runs)), key=costs.__getitem__)
    compute = costs[cheapest] * tokens / (runs[cheapest].rows * runs[cheapest].length)
    return [
        replace(run, steps=max(1, round(compute / cost)))
        for run, cost in zip(runs, costs, strict=True)
    ]


def measure(run: TrainConfig, model: ModelConfig, size: str) -> Result:
    """Train, and read the last validation from the log."""
    Run(run).train()
    log = Path(run.out, "log.jsonl").read_text(encoding="utf-8").splitlines()
    last = next(row for row in map(json.loads, reversed(log)) if "held_out_ar" in row)
    return Result(
        size,
        parameter_count(model),
        run.steps,
        last["tokens"],
        run.steps * _flops(run, model),
        last["held_out_ar"],
        last["held_out_diffusion"],
    )


def table(results: Sequence[Result]) -> str:
    """A Markdown table, one row a size."""
    lines = ["| size | parameters | steps | tokens | FLOP | held-out AR | held-out diffusion |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {run.size} | {run.parameters / 1e6:.1f} M | {run.steps} | {run.tokens / 1e6:.1f} M "
        f"| {run.flops:.1e} | {run.held_out_ar:.3f} | {run.held_out_diffusion:.3f} |"
        for run in results
    ]
    return "\n".join(lines) + "\n"


def _flops(run: TrainConfig, model: ModelConfig) -> float:
    noisy = run.noisy_blocks * run.block_size
    return step_flops(model, run.rows, run.length, noisy, run.rows * run.length)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment. Exit code 2 for a bad argument or config."""
    parser = argparse.ArgumentParser(
        prog="python -m fim_training.trainer.scaling", description=__doc__
    )
    parser.add_argument("--config", type=Path, required=True, help="a TOML file of TrainConfig")
    parser.add_argument("--sizes", required=True, help="HIDDENxLAYERS,..., as 128x6,256x8,384x8")
    parser.add_argument("--tokens", type=int, required=True, help="that the smallest size sees")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    sizes = [size.strip() for size in arguments.sizes.split(",")]
    results: list[Result] = []
    try:
        config = TrainConfig.read(arguments.config)
        if config.base:
            raise ConfigError("a base checkpoint has its size already; leave base out")
        torch.set_num_threads(config.threads)
        tokenizer = CodeTokenizer.from_file(config.tokenizer)
        runs = [shaped(config, size) for size in sizes]
        models = [run.model(tokenizer) for run in runs]
        out = Path(config.out)
        for run, model, size in zip(
            same_compute(runs, models, arguments.tokens), models, sizes, strict=True
        ):
            results.append(measure(run, model, size))
            rows = [asdict(result) for result in results]
            (out / "scaling.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            (out / "scaling.md").write_text(table(results), encoding="utf-8")
    except (ConfigError, CheckpointError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
