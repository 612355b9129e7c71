"""The exercises and questions of each lab, one module per lab."""
