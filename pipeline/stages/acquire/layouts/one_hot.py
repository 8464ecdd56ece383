"""Tables with a column for each class, and a 1 in one of them, such as ISIC's ground truth."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.columns import Column, mask, texts
from pipeline.stages.acquire.layouts.labels import UnusableTableError
from pipeline.stages.acquire.layouts.table_columns import find_options
from pipeline.stages.acquire.layouts.table_files import TableFile

LABEL = "class by the only 1"
MAX_CLASSES = 100  # columns
EXAMPLES = 3
# pandas.get_dummies writes booleans.
ZEROS = texts(["0", "0.0", "false", "False", "FALSE"])
ONES = texts(["1", "1.0", "true", "True", "TRUE"])


class OneHotTable:
    """A table with one more column, `LABEL`: the name of the column that has the row's only 1."""

    def __init__(self, table: TableFile, classes: Sequence[str]) -> None:
        self.name = table.name
        self.columns = (*table.columns, LABEL)
        self.nested = table.nested
        self.blob_columns = table.blob_columns
        self.has_header = table.has_header
        self.classes = classes
        self._table = table

    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns as texts; "" where a cell is empty.

        Raises:
            PipelineError: the table is damaged, or a cell too large.
        """
        rows = self._table.read([name for name in names if name != LABEL])
        cells = dict(zip(rows.column_names, rows.columns, strict=True))
        if LABEL in names:
            cells[LABEL] = pa.chunked_array([name_ones(self._table.read(self.classes))])
        return pa.table({name: cells[name] for name in names})


def name_ones(rows: pa.Table | pa.RecordBatch) -> pa.StringArray:
    """The name of the column that has the only 1 of each row."""
    codes = np.zeros(len(rows), np.int32)
    for number, cells in enumerate(rows.columns):
        codes[_is_one(cells)] = number
    return texts(rows.schema.names).take(pa.array(codes))


def find_classes(table: TableFile, file: str) -> list[str]:
    """The columns for classes, of which one has a 1 in each row; [] if there are other columns too.

    Args:
        file: The column with the names of files.

    Raises:
        UnusableTableError: rows have several 1s, or none.
    """
    facts = {file, *table.nested, *table.blob_columns, *find_options(table.columns).values()}
    names = [name for name in table.columns if name.strip() and name not in facts]
    if not 2 <= len(names) <= MAX_CLASSES:
        return []
    rows = table.read(names)
    counts = np.zeros(len(rows), np.int32)
    for cells in rows.columns:
        is_one = _is_one(cells)
        if not (is_one | _is_in(cells, ZEROS)).all():
            return []
        counts += is_one
    if others := int((counts != 1).sum()):
        raise UnusableTableError(
            f"{table.name} has columns of 0 and 1 ({', '.join(names[:EXAMPLES])}...), but {others} "
            f"of {len(rows)} rows do not have exactly one 1, and an image has one class: write its "
            "name into one column, and say with label_column what it is called"
        )
    return names


def _is_one(cells: Column) -> npt.NDArray[np.bool_]:
    return _is_in(cells, ONES)


def _is_in(cells: Column, values: Column) -> npt.NDArray[np.bool_]:
    """Which cells have one of some texts; Roboflow writes a blank before each cell."""
    return mask(pc.is_in(pc.utf8_trim_whitespace(cells), value_set=values))
