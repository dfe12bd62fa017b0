"""The paper's four tables for any cohort; see docs/reference/evaluate.md."""

from msdsr.tables.tables import TABLES, make_table

__all__ = ["TABLES", "make_table"]
