"""Finds the files of a tree that may be images; links are not followed out of it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from medmtl.data.building.left_out import LeftOut
from medmtl.data.dicom.files import is_companion

NIFTI_ENDINGS = (".nii", ".nii.gz")


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The files of a folder by what they may be; paths relative to it, '/' between folders.

    Attributes:
        dicom: May be DICOM, in the order of folders, then names.
        nifti: NIfTI by their names.
        spoiled: A reason for each folder in which the reader of DICOM would stop, or would read
            what must not be read.
        left_out: What was passed over, beside what nobody takes for an image.
    """

    dicom: list[str] = field(default_factory=list)
    nifti: list[str] = field(default_factory=list)
    spoiled: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


def walk(root: Path) -> Tree:
    """Looks through a folder and its subfolders, opening nothing.

    Hidden files and folders are passed over, as the reader of DICOM does.

    Args:
        root: The folder, resolved.
    """
    tree = Tree()

    def note(error: OSError) -> None:
        place = relative_to(root, Path(error.filename))
        reason = f"the folder cannot be opened: {error.strerror}"
        tree.spoiled[place] = reason
        tree.left_out.append(LeftOut(path=place, reason=reason, files=0))

    for folder, subfolders, files in os.walk(root, onerror=note):
        subfolders[:] = sorted(each for each in subfolders if not each.startswith("."))
        here = relative_to(root, Path(folder))
        for each in subfolders:
            if Path(folder, each).is_symlink():  # os.walk does not go there
                reason = "a link to a folder; links to folders are not followed"
                tree.left_out.append(LeftOut(path=joined(here, each), reason=reason, files=0))
        for file in sorted(files):
            _sort_in(tree, root, here, file)
    return tree


def relative_to(root: Path, path: Path) -> str:
    """A path as a manifest writes it."""
    return path.relative_to(root).as_posix()


def joined(folder: str, name: str) -> str:
    """A name in a folder, where '.' is the folder that is searched."""
    return name if folder == "." else f"{folder}/{name}"


def folder_of(file: str) -> str:
    """The folder of a file; '.' is the one that is searched."""
    return file.rpartition("/")[0] or "."


def _sort_in(tree: Tree, root: Path, here: str, file: str) -> None:
    is_nifti = file.lower().endswith(NIFTI_ENDINGS) and not file.startswith(".")
    if not is_nifti and is_companion(file):
        return
    relative = joined(here, file)
    path = root / relative
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        reason = "a link that leaves the folder; it is not followed"
        tree.left_out.append(LeftOut(path=relative if is_nifti else here, reason=reason))
        if not is_nifti:
            tree.spoiled.setdefault(here, reason)
    elif not path.is_file():  # a pipe or a device would be waited for without end
        return
    elif not _is_utf8(relative):
        reason = "its name is not UTF-8, so no table can hold it; rename it"
        tree.left_out.append(LeftOut(path=relative if is_nifti else here, reason=reason))
        if not is_nifti:
            tree.spoiled.setdefault(here, reason)
    else:
        (tree.nifti if is_nifti else tree.dicom).append(relative)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
