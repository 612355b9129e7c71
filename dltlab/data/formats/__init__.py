"""Formats of data sets, one module each; a new module here is a new format."""
