"""No attribute of PS3.15 Table E.1-1 survives as it was.

The table is written down here, for pydicom does not ship it: those of its attributes that a CT or
an enhanced CT image can hold, or that scanners and archives write into one.
"""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword

from medmtl.data.privacy.allowed import ALLOWED
from medmtl.data.privacy.deidentify import deidentify
from medmtl.data.privacy.secret import make_secret
from tests.data.dicom.writers import image_of, save
from tests.data.privacy.planting import SMALL, nested

# Action X (remove), Z (zero length), D (dummy), U (new UID), or a choice of them.
TABLE = """
    AccessionNumber AcquisitionComments AcquisitionContextSequence AcquisitionDate
    AcquisitionDateTime AcquisitionDeviceProcessingDescription AcquisitionFieldOfViewLabel
    AcquisitionProtocolDescription AcquisitionTime ActualHumanPerformersSequence
    AdditionalPatientHistory AddressTrial AdmissionID AdmittingDate
    AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription AdmittingTime
    AffectedSOPInstanceUID Allergies ArbitraryAuthor AuthorObserverSequence BranchOfService
    CassetteID ClinicalTrialCoordinatingCenterName ClinicalTrialProtocolEthicsCommitteeName
    ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSeriesDescription
    ClinicalTrialSeriesID ClinicalTrialSiteID ClinicalTrialSiteName ClinicalTrialSponsorName
    ClinicalTrialSubjectID ClinicalTrialSubjectReadingID ClinicalTrialTimePointDescription
    ClinicalTrialTimePointID CommentsOnThePerformedProcedureStep ConcatenationUID
    ConfidentialityConstraintOnPatientDataDescription ConsultingPhysicianIdentificationSequence
    ConsultingPhysicianName ContentCreatorName ContentDate ContentSequence ContentTime
    ContrastBolusAgent ContributionDescription CountryOfResidence CreatorVersionUID
    CurrentPatientLocation DataSetTrailingPadding DateOfLastCalibration
    DateOfLastDetectorCalibration DateOfSecondaryCapture DerivationDescription DetectorID
    DeviceSerialNumber DeviceUID DigitalSignaturesSequence DigitalSignatureUID
    DimensionOrganizationUID DischargeDiagnosisDescription EndAcquisitionDateTime EthnicGroup
    ExposureDate FailedSOPInstanceUIDList FiducialUID FillerOrderNumberImagingServiceRequest
    FrameComments FrameOfReferenceUID GantryID GeneratorID GraphicAnnotationSequence
    HumanPerformerName HumanPerformerOrganization IconImageSequence IdentifyingComments
    ImageComments ImagePresentationComments ImagingServiceRequestComments
    InstanceCoercionDateTime InstanceCreationDate InstanceCreationTime InstanceCreatorUID
    InstitutionAddress InstitutionalDepartmentName InstitutionCodeSequence InstitutionName
    IntendedRecipientsOfResultsIdentificationSequence InterpretationAuthor InterpretationText
    IrradiationEventUID IssuerOfAdmissionID IssuerOfPatientID LastMenstrualDate LensMake MAC
    MediaStorageSOPInstanceUID MedicalAlerts MedicalRecordLocator MilitaryRank
    ModifiedAttributesSequence ModifyingSystem NameOfPhysiciansReadingStudy
    NamesOfIntendedRecipientsOfResults ObservationDateTrial Occupation
    OperatorIdentificationSequence OperatorsName OrderCallbackPhoneNumber OrderEnteredBy
    OriginalAttributesSequence OtherPatientIDs OtherPatientIDsSequence OtherPatientNames
    OverlayComments OverlayDate PaletteColorLookupTableUID ParticipantSequence PatientAddress
    PatientAge PatientBirthDate PatientBirthName PatientBirthTime PatientComments PatientID
    PatientInstitutionResidence PatientMotherBirthName PatientName
    PatientPrimaryLanguageCodeSequence PatientReligiousPreference PatientSex PatientSexNeutered
    PatientSize PatientState PatientTelephoneNumbers PatientTransportArrangements PatientWeight
    PerformedLocation PerformedProcedureStepDescription PerformedProcedureStepEndDate
    PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartTime
    PerformedStationAETitle PerformedStationName PerformingPhysicianName PersonAddress
    PersonName PhysiciansOfRecord PlateID PregnancyStatus PreMedication
    ProcedureStepCancellationDateTime ProtocolName RadiopharmaceuticalStartDateTime
    ReasonForStudy ReasonForTheRequestedProcedure ReferencedFrameOfReferenceUID
    ReferencedImageSequence ReferencedPatientAliasSequence ReferencedPatientSequence
    ReferencedPerformedProcedureStepSequence ReferencedSOPInstanceUID ReferencedStudySequence
    ReferringPhysicianAddress ReferringPhysicianName ReferringPhysicianTelephoneNumbers
    RegionOfResidence RelatedFrameOfReferenceUID RequestAttributesSequence
    RequestedProcedureComments RequestedProcedureDescription RequestedProcedureID
    RequestedProcedureLocation RequestingPhysician RequestingService ResponsibleOrganization
    ResponsiblePerson ReviewerName ScheduledProcedureStepDescription ScheduledProcedureStepID
    ScheduledProcedureStepStartDate ScheduledStationAETitle ScheduledStationName SeriesDate
    SeriesDescription SeriesInstanceUID SeriesTime ServiceEpisodeDescription SmokingStatus
    SoftwareVersions SOPInstanceUID SourceImageSequence SpecialNeeds StartAcquisitionDateTime
    StationName StorageMediaFileSetUID StudyComments StudyDate StudyDescription StudyID
    StudyIDIssuer StudyInstanceUID StudyTime SynchronizationFrameOfReferenceUID TargetUID
    TextComments TextString TimezoneOffsetFromUTC TopicAuthor TopicTitle TransactionUID UID
    VerifyingObserverName VerifyingOrganization VisitComments XRaySourceID
"""
# Those of commands and of the file's own header are never part of an image.
KEYWORDS = [each for each in TABLE.split() if (tag_for_keyword(each) or 0) >> 16 > 2]
VALUES = {
    "DA": "20200303", "TM": "101112.25", "DT": "20200303101112", "AS": "063Y", "UI": "1.2.3.4567",
    "CS": "SECRET", "DS": "71.5", "IS": "7654", "US": 3, "UL": 7, "FD": 1.5, "OB": b"SECRET",
    "OW": b"SECRET", "UN": b"SECRET", "OB or OW": b"SECRET", "AT": 0x00100010,
}  # fmt: skip
# With the option to retain patient characteristics; an age becomes a band, 063Y 060Y.
KEPT = {"PatientSex"}


@pytest.fixture
def cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, object], Path]:
    monkeypatch.setenv("MEDMTL_SECRET_FILE", str(tmp_path / "kept" / "secret"))
    make_secret()
    image = image_of(SMALL, 0)
    before: dict[str, object] = {}
    for keyword in KEYWORDS:
        vr = dictionary_VR(keyword)
        before[keyword] = [nested()] if vr == "SQ" else VALUES.get(vr, f"SECRET {keyword[:5]}")
        setattr(image, keyword, before[keyword])
    image.PatientSex = before["PatientSex"] = "F"
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.dcm", image)
    deidentify(tmp_path / "in", tmp_path / "out")
    return before, next((tmp_path / "out").rglob("*.dcm"))


def test_nothing_of_the_basic_profile_survives(cleaned: tuple[dict[str, object], Path]) -> None:
    before, path = cleaned
    assert len(before) > 190
    image = dcmread(path)
    survived = [
        keyword
        for keyword, value in before.items()
        if keyword in image and str(image[keyword].value) == str(value) and keyword not in KEPT
    ]
    assert survived == []


def test_what_is_there_of_it_is_a_pseudonym_a_moved_date_or_empty(
    cleaned: tuple[dict[str, object], Path],
) -> None:
    before, path = cleaned
    image = dcmread(path)
    there = {keyword for keyword in before if keyword in image and image[keyword].value}
    assert there == {
        "AcquisitionDate", "AcquisitionDateTime", "ContentDate", "SeriesDate", "StudyDate",
        "PatientAge", "PatientSex", "PatientID", "PatientName", "ContrastBolusAgent",
        "FrameOfReferenceUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID",
    }  # fmt: skip


def test_the_table_and_the_allow_list_meet_only_where_values_are_made_anew() -> None:
    assert {*KEYWORDS} & {*ALLOWED} == {
        "AcquisitionDate", "AcquisitionDateTime", "ContentDate", "SeriesDate", "StudyDate",
        "PatientSex", "ContrastBolusAgent", "FrameOfReferenceUID", "SOPInstanceUID",
        "SeriesInstanceUID", "StudyInstanceUID",
    }  # fmt: skip
