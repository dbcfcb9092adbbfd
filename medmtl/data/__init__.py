"""From tables and images on disk to the cases that a model is trained on."""
