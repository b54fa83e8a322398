"""Delta tables: the only place that reads or writes them."""

from lbsf.tables.fold_run import fold_files
from lbsf.tables.log import DataFile
from lbsf.tables.maintenance import Maintained, maintain, referenced_versions
from lbsf.tables.warehouse import Warehouse, has_rows, local_path

__all__ = [
    "DataFile",
    "Maintained",
    "Warehouse",
    "fold_files",
    "has_rows",
    "local_path",
    "maintain",
    "referenced_versions",
]
