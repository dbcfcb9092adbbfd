"""Our own reader of single NIfTI files: read right, or refused with the reason.

Bytes (`content`) -> header (`header`) -> where the voxels lie (`placement`) -> voxels (`voxels`).
nibabel mends damaged headers silently and other programs differ in what they trust, so nothing
here is guessed: a header that says two things is refused. Messages do not name the file; the
caller does.
"""
