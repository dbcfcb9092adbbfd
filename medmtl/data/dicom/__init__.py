"""Our own reader of CT series in DICOM: read right, or refused with the reason.

Files (`files`) -> headers (`headers`) -> series (`series`) -> image planes (`planes`) ->
one stack in order (`stack`) -> HU (`hounsfield`) -> a volume (`reader`).
"""
