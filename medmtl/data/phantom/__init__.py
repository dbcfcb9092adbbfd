"""A synthetic cohort: chest CT with organs, vessels and nodules whose class can be seen."""
