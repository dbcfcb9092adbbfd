"""From a configuration to objects, and nowhere else."""
