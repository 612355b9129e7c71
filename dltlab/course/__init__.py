"""Labs as authors write them and learners get them: sources, builds, lint, workspaces."""
