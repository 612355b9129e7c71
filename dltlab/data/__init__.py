"""Data sets by their cards, a user's own images and texts: `load`, `info`, `corpus`, …."""

from dltlab.data.augment import Augmentation, augmentation
from dltlab.data.card import Card
from dltlab.data.corpora import Corpus, corpus
from dltlab.data.importing import Import, import_images
from dltlab.data.loading import arrays, load, series, text
from dltlab.data.profile import Profile, profile_pipeline
from dltlab.data.store import Manifest, info
from dltlab.data.provenance import record
from dltlab.data.vocabulary import Vocabulary
from dltlab.data.windowing import windows

__all__ = [
    "Augmentation",
    "Card",
    "Corpus",
    "Import",
    "Manifest",
    "Profile",
    "Vocabulary",
    "arrays",
    "augmentation",
    "corpus",
    "import_images",
    "info",
    "load",
    "profile_pipeline",
    "record",
    "series",
    "text",
    "windows",
]
