"""Training made visible: `Monitor`."""
