"""Ingest of payments and labels from any source: mappings, the contract, and why rows are refused."""

from lbsf.ingest.contract import Received, check_labels, check_payments
from lbsf.ingest.delivery import DeliveryCounts, accepted, count_among, count_rows, in_line, refused
from lbsf.ingest.files import Delivery, SourceFile
from lbsf.ingest.refusals import fitting_limits, too_many_refused
from lbsf.ingest.sources import SourceMapping, find_delivery, load_mapping, read_source

__all__ = [
    "Delivery",
    "DeliveryCounts",
    "Received",
    "SourceFile",
    "SourceMapping",
    "accepted",
    "check_labels",
    "check_payments",
    "count_among",
    "count_rows",
    "find_delivery",
    "fitting_limits",
    "in_line",
    "load_mapping",
    "read_source",
    "refused",
    "too_many_refused",
]
