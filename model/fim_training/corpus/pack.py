"""Pack a corpus for another machine: `python -m fim_training.corpus.pack --corpus DIR --out DIR`.

Writes `train-*.jsonl.xz` and `heldout-*.jsonl.xz` of at most 16 MB each, and no more of the corpus
than fits `--most-mb` in all; the trainer reads such a folder as it reads the corpus itself. Text is
packed and not token ids: holes begin at any character, so that examples are tokenised as they are
drawn; and as 16-bit ids, compressed the same way, a sample of the corpus was as large (0.88 against
0.91 MB of 5 MB of Python), without compression three times as large.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

FILE_BYTES = 16_000_000
CHUNK_BYTES = 32_000_000
"""Of text: a chunk becomes a file, which is far below the limit (code shrinks to a fifth)."""

HELD_OUT_SHARE = 0.1
SEED = 20_250_101


def pack(corpus: Path, out: Path, max_bytes: int) -> dict[str, tuple[int, int]]:
    """Write both splits; returns, for each, its bytes and the number of lines left out.

    The draw of lines is seeded. Raises OSError where the corpus cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    room = {"heldout": int(max_bytes * HELD_OUT_SHARE), "train": max_bytes}
    sizes: dict[str, tuple[int, int]] = {}
    for split in ("heldout", "train"):
        with gzip.open(corpus / f"{split}.jsonl.gz", "rb") as packed:
            lines = packed.readlines()
        Random(SEED).shuffle(lines)
        for old in out.glob(f"{split}-*.jsonl.xz"):
            old.unlink()
        used = taken = 0
        for number, chunk in enumerate(_chunks(lines)):
            data = lzma.compress(b"".join(chunk))
            while chunk and used + len(data) > room[split]:
                # Slightly less than in proportion, so that the next try fits.
                keep = len(chunk) * max(room[split] - used, 0) / len(data)
                chunk = chunk[: min(int(keep * 0.97), len(chunk) - 1)]
                data = lzma.compress(b"".join(chunk))
            if not chunk:
                break
            (out / f"{split}-{number:03}.jsonl.xz").write_bytes(data)
            used, taken = used + len(data), taken + len(chunk)
        sizes[split] = used, len(lines) - taken
        room["train"] = max_bytes - used
    return sizes


def _chunks(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        if chunk and size + len(line) > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    if chunk:
        yield chunk


def main(argv: Sequence[str] | None = None) -> int:
    """Pack a corpus. Exit code 2 where there is none."""
    parser = argparse.ArgumentParser(prog="python -m fim_training.corpus.pack", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the built corpus")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--most-mb", type=float, default=60, help="megabytes in all (default: 60)")
    arguments = parser.parse_args(argv)
    try:
        sizes = pack(arguments.corpus, arguments.out, int(arguments.most_mb * 1e6))
    except (OSError, EOFError) as broken:
        sys.stderr.write(f"error: {broken}; build a corpus with fim_training.corpus.build\n")
        return 2
    for split, (size, left_out) in sizes.items():
        sys.stderr.write(f"{split}: {size / 1e6:.1f} MB, {left_out} files left out\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
