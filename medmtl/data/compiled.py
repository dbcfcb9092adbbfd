"""Loops over voxels that are compiled: one pass where torch's operations would take ten.

Numba compiles a function at its first call, in seconds, and keeps the code beside the file, or in
the user's cache folder where that cannot be written. It takes part of a second to be imported, so
whoever cuts voxels imports such functions when they are needed.
"""

from numba import njit

compiled = njit(nogil=True, cache=True, error_model="numpy")
