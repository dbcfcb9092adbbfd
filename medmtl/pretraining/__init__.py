"""Learning from scans without labels: views of them, and one file a method."""
