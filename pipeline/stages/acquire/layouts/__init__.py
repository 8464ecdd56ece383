"""Layouts: where the labels of files come from (folders, names, tables, files beside them)."""
