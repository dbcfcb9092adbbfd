"""How good the predictions are, how sure that is, and whether two arms differ."""
