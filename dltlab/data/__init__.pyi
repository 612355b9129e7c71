from .augment import Augmentation, augmentation
from .card import Card
from .corpus import Corpus, corpus
from .importing import Import, import_images
from .load import arrays, load, series, text
from .profile import Profile, profile_pipeline
from .provenance import record
from .store import Manifest, info
from .vocabulary import Vocabulary
from .windows import windows

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
