"""`fim-server stats`: suggestions shown and accepted, from the statistics on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter

from fim_server.commands.terminal import print_whole, visible
from fim_server.completion.statistics import COUNTS, read_statistics, statistics_file


def run(arguments: argparse.Namespace) -> int:
    """Print the counts per day, their total, and the silence reasons."""
    file = statistics_file()
    days = read_statistics(file)
    total: Counter[str] = Counter()
    for counts in days.values():
        total.update(counts)
    if arguments.json:
        sys.stdout.write(json.dumps({"file": str(file), "days": days, "total": total}) + "\n")
        return 0
    if not days:
        sys.stdout.write(f"nothing counted yet; counts are kept in {file}\n")
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("day", *(name.replace("_", " ") for name in COUNTS), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for day, counts in [*days.items(), ("all", total)]:
        table.add_row(visible(day), *(str(counts.get(name, 0)) for name in COUNTS))
    silences = Counter(
        {key.removeprefix("silence."): n for key, n in total.items() if key.startswith("silence.")}
    )
    console = Console(highlight=False)
    print_whole(console, table)
    if silences:
        reasons = ", ".join(f"{reason} {n}" for reason, n in silences.most_common())
        console.print(Text(visible(f"\nreasons for silence: {reasons}")), soft_wrap=True)
    note = f"\nkept in {file} and never sent; disable with the setting statistics"
    console.print(Text(visible(note)), soft_wrap=True)
    return 0
