"""The roofline chart as SVG: rate against arithmetic intensity, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fim_server.bench.chart import COLOURS, HEIGHT, MARGIN, WIDTH
from fim_server.bench.device_timing import Roof


@dataclass(frozen=True, slots=True)
class Work:
    """One measurement: bytes that must be moved, operations, milliseconds taken."""

    name: str
    moved: float
    flops: float
    ms: float

    @property
    def intensity(self) -> float:
        return self.flops / self.moved

    @property
    def rate(self) -> float:
        return self.flops / self.ms * 1e3


def roofline(works: Sequence[Work], roof: Roof, title: str) -> str:
    """The chart's SVG text. Work without operations is omitted: a logarithmic axis has no zero."""
    works = [work for work in works if work.flops > 0]
    ridge = roof.flop_per_s / roof.bytes_per_s
    left = math.floor(math.log10(min([ridge, *(work.intensity for work in works)])))
    right = math.ceil(math.log10(max([ridge * 2, *(work.intensity for work in works)])))
    top = math.ceil(math.log10(roof.flop_per_s * 1.01))
    lowest = min([roof.bytes_per_s * 10.0**left, *(work.rate for work in works)])
    bottom = math.floor(math.log10(lowest))

    def across(intensity: float) -> float:
        return MARGIN + (math.log10(intensity) - left) / (right - left) * (WIDTH - 2 * MARGIN)

    def up(rate: float) -> float:
        share = (math.log10(rate) - bottom) / (top - bottom)
        return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)

    lines = [_vertical(10.0**power, across(10.0**power)) for power in range(left, right + 1)]
    lines += [_horizontal(10.0**power, up(10.0**power)) for power in range(bottom, top + 1)]
    corners = [
        (10.0**left, roof.bytes_per_s * 10.0**left), (ridge, roof.flop_per_s),
        (10.0**right, roof.flop_per_s),
    ]  # fmt: skip
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in corners)
    marks = []
    for i, work in enumerate(works):
        x, y, colour = across(work.intensity), up(work.rate), COLOURS[i % len(COLOURS)]
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        marks.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}">{escape(work.name)}</text>')
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="28" font-size="15" text-anchor="middle">{escape(title)}</text>',
        *lines,
        f'<polyline points="{path}" fill="none" stroke="#333" stroke-width="2"/>',
        *marks,
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 16}" text-anchor="middle">'
        "operations for each byte moved</text>",
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        "operations a second</text>",
        "</svg>",
        "",
    ])  # fmt: skip


def _vertical(value: float, x: float) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#ddd"/>'
        f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{value:g}</text>'
    )


def _horizontal(value: float, y: float) -> str:
    return (
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.0e}</text>'
    )
