"""The classes of an imported data set as lines of text."""

from collections.abc import Iterator

from dltlab.data.card import SPLITS
from dltlab.data.imported import ImportedDataset
from dltlab.display import printable

_BAR_CHARACTERS = 30  # of the largest class


def class_table_lines(dataset: ImportedDataset) -> Iterator[str]:
    """Yield a table of the classes: the number of images in each split, and a bar for the total."""
    from rich.cells import cell_len

    totals = [sum(counts) for counts in zip(*dataset.counts.values(), strict=True)]
    names = [printable(name) for name in dataset.class_names]
    width = max(5, *map(cell_len, names))
    yield f"{'class':<{width}}  " + "".join(f"{split:>11}" for split in SPLITS)
    for label, name in enumerate(names):
        counts = "".join(f"{dataset.counts[split][label]:>11,}" for split in SPLITS)
        bar = "█" * max(1, round(_BAR_CHARACTERS * totals[label] / max(totals)))
        yield f"{name}{' ' * (width - cell_len(name))}  {counts}  {bar}"
