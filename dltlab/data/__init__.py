"""Data sets by their cards and a user's own pictures: `load`, `info`, `import_images`."""

from dltlab.data.augment import Augmentation, augmentation
from dltlab.data.card import Card
from dltlab.data.importing import Import, import_images
from dltlab.data.load import arrays, load, series, text
from dltlab.data.profile import Profile, profile_pipeline
from dltlab.data.store import Manifest, info
from dltlab.data.used import record

__all__ = [
    "Augmentation",
    "Card",
    "Import",
    "Manifest",
    "Profile",
    "arrays",
    "augmentation",
    "import_images",
    "info",
    "load",
    "profile_pipeline",
    "record",
    "series",
    "text",
]
