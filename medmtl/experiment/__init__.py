"""Which models are trained, on whom, and where they run: folds, plan, cells, engines."""
