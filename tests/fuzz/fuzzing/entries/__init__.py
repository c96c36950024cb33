"""One entry per reader of files."""

from __future__ import annotations

from fuzzing.entries import commands, models, results, runs, settings, sources, tokens
from fuzzing.entry import Entry

ENTRIES: dict[str, Entry] = {entry.name: entry for module in (sources, tokens, models, settings, results, runs, commands) for entry in module.ENTRIES}
"""By name."""
