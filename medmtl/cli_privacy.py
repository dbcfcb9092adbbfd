"""Commands about privacy: scans without identifiers, and the secret behind their pseudonyms."""

from pathlib import Path
from typing import Annotated

import typer

from medmtl.errors import PrivacyError


def deidentify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder of CT series, or NIfTI.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New, empty, or of an earlier run.")],
    keep_derived: Annotated[
        bool, typer.Option("--keep-derived", help="Write derived images too, such as MPR slices.")
    ] = False,
    link: Annotated[
        Path | None,
        typer.Option(help="CSV outside OUT: which pseudonym is whose. Stays in the hospital."),
    ] = None,
    patient_from: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Its one group in a NIfTI file's path is the patient."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 2,
) -> None:
    """Write CT images without identifiers; what may show or hide some is refused."""
    from rich.console import Console

    from medmtl.data.privacy.deidentify import deidentify as run
    from medmtl.data.privacy.summary import print_summary

    done = run(
        source,
        out,
        keep_derived=keep_derived,
        link=link,
        patient_from=patient_from,
        workers=workers,
    )
    print_summary(done, Console())
    if not done.written:
        raise PrivacyError("nothing could be written; the reasons stand above")
    print(f"written:     {done.written} files, {done.unchanged} of them were there already")


def forget(
    patient: Annotated[str, typer.Argument(metavar="PATIENT", help="The pseudonym: patient_id.")],
    manifest: Annotated[
        list[Path] | None, typer.Option(help="Folder of a manifest; may be given several times.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    cache: Annotated[Path, typer.Option(help="Folder of the cache.")] = Path(".medmtl_cache"),
) -> None:
    """Take a patient out of manifests, cache and runs; list the models that saw them."""
    from medmtl.build.forget import ForgetPlan
    from medmtl.build.forget import forget as forget_patient

    plan = ForgetPlan(patient_id=patient, manifests=manifest or [], runs=runs, cache=cache)
    for line in forget_patient(plan):
        print(line)


def secret(
    show: Annotated[
        bool, typer.Option("--show", help="Say where it lies; make none. It is never printed.")
    ] = False,
) -> None:
    """Make the secret that pseudonyms hang on, or say where it lies."""
    from medmtl.data.privacy.secret import make_secret, read_secret, secret_file

    path = secret_file()
    if show or path.exists():
        read_secret()
        print(f"secret:      {path}, as it should be")
    else:
        print(f"secret:      {make_secret()}, made now")
    print(ABOUT_THE_SECRET)


ABOUT_THE_SECRET = """
Back it up now, where only those may read it who may know the patients; never beside images.
Lost: no pseudonym can be made again, and new scans no longer meet those of the same patient.
Stolen: whoever has a list of identifiers can find whose pseudonym is whose.
No table of pseudonyms is kept: with the secret, each can be made again from its identifier."""
