"""What people open: the report about one experiment, as one file that needs no network."""
