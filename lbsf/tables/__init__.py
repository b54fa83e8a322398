"""Delta tables. Only this package reads or writes them."""

from lbsf.tables.faults import explain
from lbsf.tables.fold_inputs import paid_days
from lbsf.tables.fold_run import UP_TO_DATE, FoldRun, fold_files, no_payments, spec_of, stored_specs
from lbsf.tables.log import DataFile, require_readable
from lbsf.tables.maintenance import Maintained, maintain, referenced_versions
from lbsf.tables.warehouse import Warehouse, has_rows, local_path, lost_files_mean
from lbsf.tables.without_spark import replace_small_day

__all__ = [
    "UP_TO_DATE",
    "DataFile",
    "Maintained",
    "Warehouse",
    "FoldRun",
    "explain",
    "fold_files",
    "no_payments",
    "paid_days",
    "has_rows",
    "local_path",
    "lost_files_mean",
    "maintain",
    "referenced_versions",
    "replace_small_day",
    "require_readable",
    "spec_of",
    "stored_specs",
]
