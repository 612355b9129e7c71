"""The parts of an import of images: read, check, divide, pack, and keep as a version."""
