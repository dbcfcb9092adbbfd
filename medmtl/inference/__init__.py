"""What trained models say about a case."""
