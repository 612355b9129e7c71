"""Tar and zip archives of given files."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMPRESSIONS = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a tar archive, compressed as its suffix says."""
    mode: Any = COMPRESSIONS.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a compressed zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
