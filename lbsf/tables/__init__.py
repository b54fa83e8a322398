"""Delta tables: the only place that reads or writes them."""

from lbsf.tables.fold_run import FoldRun, fold_files, no_payments, paid_days, spec_of, stored_specs
from lbsf.tables.log import DataFile
from lbsf.tables.maintenance import Maintained, maintain, referenced_versions
from lbsf.tables.warehouse import Warehouse, has_rows, local_path, lost_files_mean
from lbsf.tables.without_spark import replace_small_day

__all__ = [
    "DataFile",
    "Maintained",
    "Warehouse",
    "FoldRun",
    "fold_files",
    "no_payments",
    "paid_days",
    "has_rows",
    "local_path",
    "lost_files_mean",
    "maintain",
    "referenced_versions",
    "replace_small_day",
    "spec_of",
    "stored_specs",
]
