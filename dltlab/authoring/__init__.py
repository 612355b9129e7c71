"""What a course author uses: start, build, lint and verify labs."""
