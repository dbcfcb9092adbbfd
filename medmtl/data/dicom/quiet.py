"""Calls into pydicom: its warnings silenced, its many exceptions turned into one of ours."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from medmtl.errors import ScanError

# Warning filters belong to the whole process; two threads that change them in turns would leave
# them changed.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def pydicom_at_work(where: str, what: str) -> Iterator[None]:
    """Surrounds calls into pydicom and its decoders.

    Scanners write malformed elements that pydicom warns of, hundreds of times a series. What is
    used of a file is checked here anyway.

    Args:
        where: How messages call the file.
        what: What is being read.

    Raises:
        ScanError: Whatever pydicom raised. Its own text is left out, for it may quote the file.
    """
    logger = logging.getLogger("pydicom")
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was_disabled, logger.disabled = logger.disabled, True
        try:
            yield
        except ScanError:
            raise
        except Exception as error:  # garbage reaches every corner of a parser
            raise ScanError(
                f"{where}: {what} cannot be read, the file is damaged ({type(error).__name__}); "
                "copy it again"
            ) from error
        finally:
            logger.disabled = was_disabled
