"""Data sets by their cards: `arrays`, `info`."""
