"""Where a CT has blobs, and what each looks like, in a way that copies of the scan share.

Everything is measured within slices, none of it across them: scans may be two slices thick, and
what cuts slices away must not change those that stay.
"""

import base64
import binascii
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16, Integer, Real, UInt8
from scipy import ndimage

from medmtl.errors import ScanError

AIR_HU, BONE_HU = -1000, 400
# A blob is what stands out between a blur and one wider by this factor.
BLUR_RATIO = 1.6
# Noise of 20 HU in voxels of 0.7 mm leaves some 2 HU after the finest blur.
LEAST_CONTRAST_HU = 6.0
BORDER_SIGMAS = 0.5
# Blurs, in sigmas of the level, through which a keypoint is looked at.
LOOKS = (1.0, 1.6)
# Derivatives within the slice, along its two axes: level, slopes, curvatures.
ORDERS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0))
EVEN = tuple(a % 2 == 0 and b % 2 == 0 for a, b in ORDERS)
DESCRIPTOR_LENGTH = len(LOOKS) * len(ORDERS)
HU_A_STEP_LEVEL = 5.5
HU_A_STEP_DERIVATIVE = 3.0
KERNEL_SIGMAS = 3.0
STEP_MM = 0.1
VERSION = "near1:"


@dataclass(frozen=True, kw_only=True)
class Level:
    """The size of the blobs that are looked for.

    Attributes:
        sigma_mm: Of the finer blur.
        smallest_ml: Scans of less volume are not looked at on this level,
        largest_ml: nor those of more.
    """

    sigma_mm: float
    smallest_ml: float
    largest_ml: float


# Crops of lesions, and whole scans. A copy keeps at least 0.7 ** 3 = 0.34 of its scan's volume,
# so both share a level: the overlap of the two ranges is wider than that.
LEVELS = (
    Level(sigma_mm=1.2, smallest_ml=0.0, largest_ml=2500.0),
    Level(sigma_mm=6.0, smallest_ml=700.0, largest_ml=np.inf),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """What is kept of a scan. The keypoints of a level stand together, the strongest first.

    Attributes:
        extent: Of the scan along its axes in RAS order, in steps of 0.1 mm.
        levels: Of each keypoint, an index into `LEVELS`.
        places: Of each keypoint, from the corner where the array begins, in steps of 0.1 mm.
        descriptors: What each looks like; see `Keypoints`.
    """

    extent: Int16[np.ndarray, "3"]
    levels: UInt8[np.ndarray, "n"]
    places: Int16[np.ndarray, "n 3"]
    descriptors: UInt8[np.ndarray, "n d"]

    def to_text(self) -> str:
        """Writes it in letters, digits, + / = and a version: at most some 3 kB."""
        parts = (self.extent.astype("<i2"), self.levels, self.places.astype("<i2"))
        content = b"".join(part.tobytes() for part in (*parts, self.descriptors))
        return VERSION + base64.b64encode(content).decode()

    @classmethod
    def from_text(cls, text: str) -> "Fingerprint":
        """Reads what `to_text` wrote.

        Raises:
            ScanError: Another version's text, or damaged.
        """
        if not text.startswith(VERSION):
            raise ScanError(
                f"a fingerprint begins with {VERSION!r}, this text with {text[:8]!r}; make the "
                "fingerprints again with this version"
            )
        try:
            content = base64.b64decode(text.removeprefix(VERSION), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ScanError(f"the text of a fingerprint is damaged: {error}") from error
        count, rest = divmod(len(content) - 6, 1 + 6 + DESCRIPTOR_LENGTH)
        if count < 0 or rest:
            raise ScanError(f"the text of a fingerprint is damaged: {len(content)} bytes")
        extent, levels, places, descriptors = np.split(
            np.frombuffer(content, dtype=np.uint8), np.cumsum([6, count, 6 * count])
        )
        return cls(
            extent=extent.view("<i2").astype(np.int16),
            levels=levels,
            places=places.view("<i2").astype(np.int16).reshape(count, 3),
            descriptors=descriptors.reshape(count, DESCRIPTOR_LENGTH),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Keypoints:
    """The blobs of a scan, those of highest contrast first.

    Attributes:
        places_mm: From the corner where the stored array begins, along its axes.
        descriptors: What each looks like; not changed by mirroring any axis.
    """

    places_mm: Float[np.ndarray, "n 3"]
    descriptors: Integer[np.ndarray, "n d"]


NONE = Keypoints(
    places_mm=np.zeros((0, 3)), descriptors=np.zeros((0, DESCRIPTOR_LENGTH), dtype=np.uint8)
)


def find_keypoints(
    voxels: Real[np.ndarray, "i j k"], spacing_mm: Float[np.ndarray, "3"], level: Level, most: int
) -> Keypoints:
    """Finds blobs within slices and describes them.

    Lengths are in mm throughout, and voxels are merged only where they are far finer than
    the blobs, so other spacings find the same blobs.

    Args:
        voxels: HU; slices lie along the last axis.
        spacing_mm: Along the axes.
        level: How large the blobs are.
        most: At most so many, the strongest.

    Source:
        Difference of Gaussians: Lowe 2004, Distinctive image features from scale-invariant
        keypoints. Descriptors: the local jet of Koenderink and van Doorn 1987.
    """
    merged = np.maximum(1, (0.6 * level.sigma_mm / spacing_mm).astype(int))
    hu = _block_mean(voxels, merged)
    spacing_mm = spacing_mm * merged
    sigma = level.sigma_mm / spacing_mm
    if min(hu.shape[:2]) < 3:
        return NONE
    contrast = _blur(hu, sigma) - _blur(hu, BLUR_RATIO * sigma)
    ijk = np.argwhere(_is_blob(contrast, sigma))
    strength = np.abs(contrast[tuple(ijk.T)])
    ijk = ijk[np.argsort(-strength, kind="stable")[:most]]
    if not len(ijk):
        return NONE
    shift = _between_voxels(contrast, ijk)
    return Keypoints(
        places_mm=(ijk + 0.5 + shift) * spacing_mm,
        descriptors=_describe(hu, ijk, shift, sigma),
    )


def _block_mean(
    voxels: Real[np.ndarray, "i j k"], merged: Int[np.ndarray, "3"]
) -> Float32[np.ndarray, "a b c"]:
    """Merges whole blocks of voxels, after clipping, so that metal does not outshine a block."""
    hu = np.clip(voxels, AIR_HU, BONE_HU)
    for axis, count in enumerate(merged):
        moved = np.moveaxis(hu, axis, 0)
        whole = len(moved) // count * count
        parts = [moved[first:whole:count] for first in range(count)]
        mean = parts[0].astype(np.float32)
        for part in parts[1:]:
            mean += part
        hu = np.moveaxis(mean / np.float32(count), 0, axis)
    return np.ascontiguousarray(hu, dtype=np.float32)


def _blur(
    hu: Float32[np.ndarray, "i j k"], sigma: Float[np.ndarray, "3"]
) -> Float32[np.ndarray, "i j k"]:
    sigmas = (sigma[0], sigma[1], 0)
    return ndimage.gaussian_filter(hu, sigmas, mode="nearest", truncate=KERNEL_SIGMAS)


def _is_blob(
    contrast: Float32[np.ndarray, "i j k"], sigma: Float[np.ndarray, "3"]
) -> Bool[np.ndarray, "i j k"]:
    """Where the contrast is the highest, or the lowest, for a sigma around, away from the border.

    Half a sigma across slices, where thin slices repeat each other.
    """
    reach = (max(1, round(sigma[0])), max(1, round(sigma[1])), round(0.5 * sigma[2]))
    size = [2 * n + 1 for n in reach]
    high = ndimage.maximum_filter(contrast, size, mode="nearest") == contrast
    low = ndimage.minimum_filter(contrast, size, mode="nearest") == contrast
    blob = (high & (contrast > LEAST_CONTRAST_HU)) | (low & (contrast < -LEAST_CONTRAST_HU))
    a, b = (max(1, int(np.ceil(BORDER_SIGMAS * s))) for s in sigma[:2])
    inside = np.zeros_like(blob)
    inside[a:-a, b:-b] = blob[a:-a, b:-b]
    return inside


def _between_voxels(
    contrast: Float32[np.ndarray, "i j k"], ijk: Int[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """How far, in voxels, the peak of a parabola through each blob lies from its voxel."""
    shift = np.zeros(ijk.shape)
    here = contrast[tuple(ijk.T)]
    for axis in (0, 1):
        step = np.eye(3, dtype=int)[axis]
        after, before = contrast[tuple((ijk + step).T)], contrast[tuple((ijk - step).T)]
        bend = after + before - 2 * here
        flat = np.abs(bend) < 1e-6
        shift[:, axis] = np.where(flat, 0, (before - after) / np.where(flat, 1, 2 * bend))
    return np.clip(shift, -0.5, 0.5)


def _describe(
    hu: Float32[np.ndarray, "i j k"],
    ijk: Int[np.ndarray, "n 3"],
    shift: Float[np.ndarray, "n 3"],
    sigma: Float[np.ndarray, "3"],
) -> Integer[np.ndarray, "n d"]:
    """The Gaussian derivatives at each keypoint, those that mirroring negates without sign."""
    reach = np.ceil(KERNEL_SIGMAS * max(LOOKS) * sigma[:2]).astype(int)
    padded = np.pad(hu, [(reach[0], reach[0]), (reach[1], reach[1]), (0, 0)], mode="edge")
    rows, columns = (ijk[:, [axis]] + np.arange(2 * reach[axis] + 1) for axis in (0, 1))
    patches = padded[rows[:, :, None], columns[:, None, :], ijk[:, 2, None, None]]
    steps = []
    for look in LOOKS:
        kernels = [
            _derivatives((np.arange(-reach[q], reach[q] + 1) - shift[:, [q]]) / (look * sigma[q]))
            for q in (0, 1)
        ]
        jet = np.einsum("nij,nai,nbj->nab", patches, *kernels, optimize=True)
        for (a, b), even in zip(ORDERS, EVEN, strict=True):
            steps.append(_to_steps(jet[:, a, b], is_level=a == b == 0, even=even))
    return np.stack(steps, axis=1)


def _derivatives(x: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n 3 m"]:
    """A Gaussian and its two first derivatives, as weights for voxels at `x` sigmas."""
    gauss = np.exp(-(x**2) / 2)
    gauss /= gauss.sum(axis=1, keepdims=True)
    return np.stack([gauss, -x * gauss, (x**2 - 1) * gauss / np.sqrt(2)], axis=1)


def _to_steps(
    hu: Float[np.ndarray, "n"], *, is_level: bool, even: bool
) -> Integer[np.ndarray, "n"]:
    if is_level:
        steps = (hu - AIR_HU) / HU_A_STEP_LEVEL
    elif even:
        steps = hu / HU_A_STEP_DERIVATIVE + 128
    else:
        steps = np.abs(hu) / HU_A_STEP_DERIVATIVE
    return np.clip(np.rint(steps), 0, 255).astype(np.uint8)
