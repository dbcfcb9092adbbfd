"""The closed lists: every word that an output can hold, apart from pseudonyms and numbers."""

ORIGINALITY, EXAMINATION = ("ORIGINAL", "DERIVED"), ("PRIMARY", "SECONDARY")
# What may follow in ImageType and FrameType; vendors' other words are left out.
KINDS = (
    "AXIAL", "VOLUME", "HELIX", "HELICAL", "SPIRAL", "SEQUENCE", "MPR", "REFORMATTED", "AVERAGE",
    "NONE", "SAMPLED", "DISTORTED", "RESAMPLED", "MULTIPLANAR",
)  # fmt: skip
SEXES = ("M", "F", "O")
POSITIONS = ("HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS", "LFP", "LFS", "RFP",
             "RFS", "AFDR", "AFDL", "PFDR", "PFDL")  # fmt: skip
# DICOM PS3.16 Annex L, the terms that BodyPartExamined may hold; of these, a side is required.
_PAIRED = """
    ADRENAL ANKLE ARM AXILLA BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CHEEK CLAVICLE EAR ELBOW
    EXTREMITY EYE FEMUR FINGER FOOT HAND HIP HUMERUS IAC KIDNEY KNEE LEG LUNG ORBIT PAROTID PATELLA
    RIB SCAPULA SHOULDER THIGH THUMB TOE WRIST ZYGOMA
"""
_UNPAIRED = """
    ABDOMEN ABDOMENPELVIS AORTA BACK BLADDER BRAIN CEREBELLUM CERVIX CHEST CHESTABDOMEN
    CHESTABDPELVIS CIRCLEOFWILLIS COCCYX COLON CORONARYARTERY CSPINE CTSPINE DUODENUM ESOPHAGUS FACE
    GALLBLADDER HEAD HEADNECK HEART ILEUM ILIUM JAW JEJUNUM LARYNX LIVER LSPINE LSSPINE MAXILLA
    MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE PANCREAS PELVIS PHARYNX
    PROSTATE RECTUM SCALP SKULL SPINE SPLEEN SSPINE STERNUM STOMACH THYMUS THYROID TLSPINE TONGUE
    TRACHEA TSPINE UTERUS VAGINA WHOLEBODY
"""
UNPAIRED = frozenset(_UNPAIRED.split())
BODY_PARTS = {part: part for part in (*_PAIRED.split(), *_UNPAIRED.split())} | {
    "THORAX": "CHEST", "LUNGS": "LUNG", "CHEST_ABDOMEN": "CHESTABDOMEN", "WHOLE BODY": "WHOLEBODY",
}  # fmt: skip
# How a manufacturer's name begins, and what is written for it.
VENDORS = {
    "SIEMENS": "SIEMENS", "GE ": "GE MEDICAL SYSTEMS", "GENERAL ELECTRIC": "GE MEDICAL SYSTEMS",
    "GEMS": "GE MEDICAL SYSTEMS", "PHILIPS": "Philips", "MARCONI": "Marconi", "PICKER": "Picker",
    "ELSCINT": "Elscint", "TOSHIBA": "TOSHIBA", "CANON": "CANON", "HITACHI": "Hitachi",
    "FUJIFILM": "FUJIFILM", "SHIMADZU": "Shimadzu", "NEUSOFT": "Neusoft", "UIH": "UIH",
    "UNITED IMAGING": "UIH", "SAMSUNG": "Samsung", "NEUROLOGICA": "NeuroLogica",
    "IMATRON": "Imatron", "VARIAN": "Varian", "ELEKTA": "Elekta", "ACCURAY": "Accuray",
    "MEDISO": "Mediso", "MINFOUND": "MinFound", "ANKE": "Anke", "PLANMED": "Planmed",
}  # fmt: skip
UNKNOWN = "UNKNOWN"
# Siemens: B30f, Br40d, I70f, Hr38; Toshiba and Canon: FC01, FC08-H.
KERNEL_CODES = r"[BHIUTQSDJ][fhlnprtuvcsx]?[0-9]{2}[A-Za-z]?|FC[0-9]{2}(-H|-A)?|[1-5]"
# GE and Philips, and the families of the enhanced CT image.
_KERNELS = """
    STANDARD SOFT LUNG BONE BONEPLUS DETAIL CHEST EDGE ULTRA HDSTANDARD HDBONE HDLUNG HDDETAIL
    SMOOTH SHARP BRAIN SOFT_TISSUE CONSTANT_ANGLE NONE IMR1 IMR2 EC EB EA EY
    A B C D E F G L U Y YA YB YC YD YE LA LB LC UA UB UC CA CB CC SA SB SC
"""
KERNELS = frozenset(_KERNELS.split())
KERNEL_GROUPS = ("BRAIN", "SOFT_TISSUE", "LUNG", "BONE", "CONSTANT_ANGLE")
# What stands for "no" where a contrast agent would be named.
NO_CONTRAST = {
    "", "NO", "NONE", "NON", "N", "0", "-", "WITHOUT", "W/O", "NIL", "KEIN", "SANS", "FALSE",
    "UNENHANCED", "NATIVE", "NATIV", "NO CONTRAST", "WITHOUT CONTRAST",
}  # fmt: skip
# DICOM PS3.16 CID 4, of SNOMED CT: what a FrameAnatomySequence may name.
REGIONS = {
    "51185008": "Chest", "39607008": "Lung", "113345001": "Abdomen", "69536005": "Head",
    "45048000": "Neck", "12921003": "Pelvis", "416949008": "Abdomen and Pelvis",
    "416775004": "Chest, Abdomen and Pelvis", "416550000": "Chest and Abdomen",
    "774007": "Head and Neck", "38266002": "Entire body", "80891009": "Heart", "12738006": "Brain",
    "10200004": "Liver", "64033007": "Kidney", "421060004": "Spine",
}  # fmt: skip
LEGACY_REGIONS = {  # SNOMED-RT's codes, before 2019
    "T-D3000": "51185008", "T-28000": "39607008", "T-D4000": "113345001", "T-D1100": "69536005",
    "T-D1600": "45048000", "T-D6000": "12921003", "T-D1000": "774007", "T-32000": "80891009",
    "T-A0100": "12738006", "T-62000": "10200004", "T-71000": "64033007", "T-D0010": "38266002",
}  # fmt: skip
COMPRESSION_METHODS = ("ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15")
