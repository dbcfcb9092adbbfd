"""Plants SECRET wherever a DICOM file can hold it, and searches an output for it."""

import gzip
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medmtl.data.dicom.headers import ELEMENTS
from tests.data.dicom.writers import Edit, Phantom

TEXT = b"SECRET^x"  # 8 bytes, so that it fits numbers too
# Any four letters of it, in any case; and as UTF-16.
PARTS = [part for whole in ("SECRET",) for part in (whole[i : i + 4] for i in range(3))]
NEEDLE = re.compile(
    b"|".join(re.escape(part.encode(code)) for part in PARTS for code in ("ascii", "utf-16-le")),
    re.IGNORECASE,
)
BASE64 = re.compile(rb"base64,([A-Za-z0-9+/\s]+=*)")
# Without these a file is refused, or read as something else; they are planted one by one.
NEEDED = {Tag(each) for each in ELEMENTS if isinstance(each, str)} | {
    Tag(tag_for_keyword(each) or 0) for each in ("PixelData", "ConversionType")
}
SMALL = Phantom(shape=(6, 5, 4))


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    """An element with any bytes."""
    return RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)


def nested() -> Dataset:
    """An item with a name, a private block and a sequence of its own."""
    inner, outer = Dataset(), Dataset()
    inner.PatientName = inner.TextValue = "SECRET^INNER"
    inner.add_new(0x00091001, "LO", "SECRET private")
    outer.PatientID, outer.ContentSequence, outer.UID = "SECRET", [inner], "1.2.SECRET"
    return outer


def plant(image: Dataset, *, every: int = 1) -> None:
    """Adds the elements of the dictionary that the image has not, and private ones.

    Args:
        image: Any.
        every: 1 for all elements, 10 for each tenth.
    """
    for tag, (vr, *_) in list(DicomDictionary.items())[::every]:
        if tag >> 16 in (0, 2, 0xFFFE, 0x7FE0) or BaseTag(tag) in NEEDED or tag in image:
            continue
        if vr == "SQ":
            image.add_new(tag, "SQ", [nested()])
        elif len(vr) == 2 and vr != "AT":
            image[tag] = raw(tag, vr, TEXT)
    for group in (0x0009, 0x0029, 0x7FE1):
        image[(group << 16) + 0x10] = raw((group << 16) + 0x10, "LO", b"SECRET CREATOR")
        image[(group << 16) + 0x1001] = raw((group << 16) + 0x1001, "UN", TEXT)
    for group in (0x5000, 0x6000, 0x6002):
        image[(group << 16) + 0x22] = raw((group << 16) + 0x22, "LO", TEXT)
        image[(group << 16) + 0x3000] = raw((group << 16) + 0x3000, "OB", TEXT * 4)
    image.PatientName, image.PatientID = "SECRET^NAME=SECRÉT", "SECRET-ID"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "SECRET", "CT_SECRET"]
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.SECRET.1", "1.2.SECRET.2"
    image.preamble = (b"SECRET" * 22)[:128]
    image.file_meta.SourceApplicationEntityTitle = "SECRET_AE"
    image.file_meta.ImplementationVersionName = "SECRET"
    image.file_meta.PrivateInformationCreatorUID = "1.2.3"
    image.file_meta.PrivateInformation = b"SECRET"


def numbered(edit: Edit = lambda k, image: None) -> Edit:
    """Gives each slice an SOPInstanceUID of its own, as scanners do."""

    def change(k: int, image: Dataset) -> None:
        image.SOPInstanceUID = f"{image.SeriesInstanceUID}.{k}"
        edit(k, image)

    return change


def found_in(folder: Path) -> Iterator[str]:
    """Where SECRET is found in a folder: names, bytes, what is compressed, values of elements."""
    for path in sorted(folder.rglob("*")):
        if NEEDLE.search(path.relative_to(folder).as_posix().encode()):
            yield f"name of {path}"
        if not path.is_file():
            continue
        content = path.read_bytes()
        for kind, layer in _layers(path, content):
            if NEEDLE.search(layer):
                yield f"{kind} of {path}"


def _layers(path: Path, content: bytes) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".html":  # the letters of base64 spell anything
        yield "text", BASE64.sub(b"", content)
        for each in BASE64.finditer(content):
            yield "picture", b64decode(each[1])
    elif path.suffix == ".db":  # MLflow's has tables of secrets, of its own
        yield "bytes", b"".join(re.findall(b"SECR|CRET", content))
    else:
        yield "bytes", content
    if path.name.endswith(".gz"):
        yield "gzip", gzip.decompress(content)
    if path.suffix == ".dcm":
        image = dcmread(BytesIO(content))
        if image.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            start = 144 + image.file_meta.FileMetaInformationGroupLength
            yield "inflated", zlib.decompress(content[start:], -zlib.MAX_WBITS)
        yield "values", str(image).encode()
        yield "meta", str(image.file_meta).encode()
