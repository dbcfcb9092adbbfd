"""An enhanced CT image with all that its IOD requires, from the writers' phantom."""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.data.dicom.writers import Phantom, enhanced_of

PLACE, CONTENT, INDEX = 0x00209113, 0x00209111, 0x00209057


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def conformant_enhanced(phantom: Phantom, order: Sequence[int]) -> Dataset:
    """All slices in one image that dciodvfy finds no Error in."""
    image = enhanced_of(phantom, order)
    image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.InstanceNumber, image.PatientPosition = "1", "HFS"
    image.StudyDate = image.SeriesDate = image.ContentDate = "20200303"
    image.StudyTime = image.ContentTime = "101010"
    image.AcquisitionDateTime, image.AcquisitionDuration = "20200303101010.25", 4.5
    image.PixelPresentation, image.VolumetricProperties = "MONOCHROME", "VOLUME"
    image.VolumeBasedCalculationTechnique = "NONE"
    image.DimensionOrganizationSequence = Items([_item(DimensionOrganizationUID="1.2.3.77")])
    pointer = _item(
        DimensionOrganizationUID="1.2.3.77",
        DimensionIndexPointer=INDEX,
        FunctionalGroupPointer=CONTENT,
        DimensionDescriptionLabel="SECRET label",
    )
    image.DimensionIndexSequence = Items([pointer])
    _share(image.SharedFunctionalGroupsSequence[0])
    for number, group in enumerate(image.PerFrameFunctionalGroupsSequence, start=1):
        _describe(group, number)
    return image


def _share(shared: Dataset) -> None:
    region = _item(CodeValue="51185008", CodingSchemeDesignator="SCT", CodeMeaning="SECRET chest")
    shared.FrameAnatomySequence = [_item(FrameLaterality="U", AnatomicRegionSequence=[region])]
    shared.CTAcquisitionTypeSequence = [
        _item(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")
    ]
    shared.CTAcquisitionDetailsSequence = [
        _item(
            RotationDirection="CW", RevolutionTime=0.5, SingleCollimationWidth=0.6,
            TotalCollimationWidth=38.4, TableHeight="150", GantryDetectorTilt="0",
            DataCollectionDiameter="500",
        )
    ]  # fmt: skip
    shared.CTTableDynamicsSequence = [
        _item(TableSpeed=46.0, TableFeedPerRotation=23.0, SpiralPitchFactor=0.6)
    ]
    shared.CTGeometrySequence = [
        _item(DistanceSourceToDetector="1085", DistanceSourceToDataCollectionCenter=595.0)
    ]
    shared.CTReconstructionSequence = [
        _item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ", ConvolutionKernel="B30f",
            ConvolutionKernelGroup="SOFT_TISSUE", ReconstructionDiameter="300",
            ReconstructionPixelSpacing=[0.9, 1.1], ReconstructionAngle=360.0,
            ImageFilter="SECRET filter",
        )
    ]  # fmt: skip
    shared.CTExposureSequence = [
        _item(ExposureTimeInms=500.0, XRayTubeCurrentInmA=200.0, ExposureInmAs=100.0,
              ExposureModulationType="NONE")
    ]  # fmt: skip
    shared.CTXRayDetailsSequence = [
        _item(KVP="120", FocalSpots="1.2", FilterType="FLAT", FilterMaterial="ALUMINUM")
    ]
    shared.IrradiationEventIdentificationSequence = [_item(IrradiationEventUID="1.2.3.88")]
    shared.FrameVOILUTSequence = [_item(WindowCenter="40", WindowWidth="400")]


def _describe(group: Dataset, number: int) -> None:
    kind = group.CTImageFrameTypeSequence[0]
    kind.PixelPresentation, kind.VolumetricProperties = "MONOCHROME", "VOLUME"
    kind.VolumeBasedCalculationTechnique = "NONE"
    group.FrameContentSequence = [
        _item(
            FrameAcquisitionNumber=1, FrameReferenceDateTime="20200303101010",
            FrameAcquisitionDateTime="20200303101010", FrameAcquisitionDuration=500.0,
            StackID="1", InStackPositionNumber=number, DimensionIndexValues=[number],
            FrameComments="SECRET frame",
        )
    ]  # fmt: skip
    group.CTPositionSequence = [
        _item(TablePosition=float(number), DataCollectionCenterPatient=[1.0, 2.0, 3.0],
              ReconstructionTargetCenterPatient=[1.0, 2.0, 3.0])
    ]  # fmt: skip
