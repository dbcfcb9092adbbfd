"""Tests of how predictions are judged."""
