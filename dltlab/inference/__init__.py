"""A trained model as a fast engine, which must stay right."""
