"""A scatter chart as SVG, for the pictures in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 720, 440, 64
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2")


@dataclass(frozen=True, slots=True)
class Point:
    """One mark of the chart; points of the same `group` share a colour."""

    x: float
    y: float
    label: str
    group: str


def scatter(points: Sequence[Point], *, title: str, x: str, y: str) -> str:
    """The chart's SVG text; both axes start at zero and are linear."""
    right = max((point.x for point in points), default=1.0) * 1.15 or 1.0
    top = max((point.y for point in points), default=1.0) * 1.15 or 1.0
    groups = list(dict.fromkeys(point.group for point in points))

    def across(value: float) -> float:
        return MARGIN + value / right * (WIDTH - 2 * MARGIN)

    def up(value: float) -> float:
        return HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN)

    marks = []
    for point in points:
        colour = COLOURS[groups.index(point.group) % len(COLOURS)]
        marks.append(
            f'<circle cx="{across(point.x):.1f}" cy="{up(point.y):.1f}" r="5" fill="{colour}"/>'
            f'<text x="{across(point.x) + 8:.1f}" y="{up(point.y) + 4:.1f}">'
            f"{escape(point.label)}</text>"
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            'font-family="sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{WIDTH / 2}" y="28" font-size="15" text-anchor="middle">{escape(title)}'
            "</text>",
            *_axis(right, across, HEIGHT - MARGIN, horizontal=True),
            *_axis(top, up, MARGIN, horizontal=False),
            f'<text x="{WIDTH / 2}" y="{HEIGHT - 16}" text-anchor="middle">{escape(x)}</text>',
            f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(y)}</text>",
            *marks,
            "</svg>",
            "",
        ]
    )


def _axis(end: float, place: Callable[[float], float], at: float, *, horizontal: bool) -> list[str]:
    lines = []
    for tick in range(6):
        value = end * tick / 5
        spot = place(value)
        if horizontal:
            line = f'x1="{spot:.1f}" x2="{spot:.1f}" y1="{MARGIN}" y2="{at}"'
            text = f'x="{spot:.1f}" y="{at + 16}" text-anchor="middle"'
        else:
            line = f'x1="{at}" x2="{WIDTH - MARGIN}" y1="{spot:.1f}" y2="{spot:.1f}"'
            text = f'x="{at - 6}" y="{spot + 4:.1f}" text-anchor="end"'
        lines.append(f'<line {line} stroke="#ddd"/><text {text}>{value:.3g}</text>')
    return lines
