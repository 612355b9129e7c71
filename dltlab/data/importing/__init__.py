"""Import a user's own images: read, check, divide, pack, and keep as a version."""
