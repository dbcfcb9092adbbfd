"""A shared encoder and its heads."""
