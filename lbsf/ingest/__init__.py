"""Any source's payments and labels as ours: the mapping, the contract, what is refused and why."""

from lbsf.ingest.contract import Received, check_labels, check_payments
from lbsf.ingest.delivery import accepted, count_rows, refused
from lbsf.ingest.sources import SourceMapping, load_mapping, read_source

__all__ = [
    "Received",
    "SourceMapping",
    "accepted",
    "check_labels",
    "check_payments",
    "count_rows",
    "load_mapping",
    "read_source",
    "refused",
]
