"""Privacy: pseudonyms under a secret, scans without identifiers, and patients forgotten.

The secret (`secret`) keys every pseudonym (`Secret.pseudonym`).
"""
