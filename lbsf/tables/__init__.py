"""Delta tables: the only place that reads or writes them."""

from lbsf.tables.warehouse import DataFile, Warehouse, has_rows, local_path

__all__ = ["DataFile", "Warehouse", "has_rows", "local_path"]
