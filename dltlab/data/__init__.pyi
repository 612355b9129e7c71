from .augment import augmentation
from .captions import CAPTION_ATTRIBUTES, CAPTIONS, attributes_of, caption_vectors, read_caption
from .catalog import (
    ImageDataset,
    describe,
    fetch,
    info,
    list_datasets,
    remove,
    runs_using,
    verify,
)
from .contact_sheet import contact_sheet
from .corpus import corpus
from .formats.captioned_shapes import UNSEEN_CAPTIONS, captioned_shapes
from .formats.gravitational_waves import ligo_psd, whitened_chirps
from .formats.mackey_glass import mackey_glass
from .image_file import RESIZES, Resize, UnusableImage, read_image
from .image_import import import_images
from .load import arrays, load, molecules, series, text
from .profile import profile_pipeline
from .provenance import read_provenance, write_provenance
from .vocabulary import Vocabulary
from .windows import windows

__all__ = [
    "CAPTIONS",
    "CAPTION_ATTRIBUTES",
    "RESIZES",
    "UNSEEN_CAPTIONS",
    "ImageDataset",
    "Resize",
    "UnusableImage",
    "Vocabulary",
    "arrays",
    "attributes_of",
    "augmentation",
    "caption_vectors",
    "captioned_shapes",
    "contact_sheet",
    "corpus",
    "describe",
    "fetch",
    "import_images",
    "info",
    "ligo_psd",
    "list_datasets",
    "load",
    "mackey_glass",
    "molecules",
    "profile_pipeline",
    "read_caption",
    "read_image",
    "read_provenance",
    "remove",
    "runs_using",
    "series",
    "text",
    "verify",
    "whitened_chirps",
    "windows",
    "write_provenance",
]
