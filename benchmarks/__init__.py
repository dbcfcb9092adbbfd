"""This project beside its peers, doing the same work in the same run: `make bench`."""
