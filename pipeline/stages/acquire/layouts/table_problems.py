"""Why a table cannot be used, in a clause each."""

from pipeline.stages.acquire.layouts.file_index import FileIndex
from pipeline.stages.acquire.layouts.table_columns import URLS, are_image_names, find_column
from pipeline.stages.acquire.layouts.table_files import TableFile

EXAMPLES = 3


def no_files(table: TableFile, file: str | None, index: FileIndex) -> str:
    """That a table names no file of the listing.

    Args:
        file: The column that was compared with the names; None if there is none.
    """
    has = f"it has {', '.join(table.columns[:20])}"
    if (url := find_column(table.columns, URLS)) is not None:
        return (
            f"the column {url!r} of {table.name} has the URLs of photographs: read it with "
            '`pipeline new NAME --from-urls`, or as kind = "urls" in dataset.toml'
        )
    if file is None:
        return (
            f"{table.name} has the columns {', '.join(table.columns[:20])}: say with label_column "
            "and file_column what they are"
        )
    values = [value for value in table.read([file]).column(0).slice(0, 100).to_pylist() if value]
    if are_image_names(values):
        return (
            f"no file ends like one of those that the column {file!r} of {table.name} names, for "
            f"instance {', '.join(map(repr, values[:EXAMPLES]))}, where there are "
            f"{', '.join(index.examples(EXAMPLES)) or 'no images'}: give the folder that has "
            "these files with the table in it, or say with file_column which other column names "
            "them"
        )
    return (
        f"the column {file!r} of {table.name} names none of its files, for instance "
        f"{', '.join(map(repr, values[:EXAMPLES]))}, where there are "
        f"{', '.join(index.examples(EXAMPLES)) or 'no images'}: say with file_column which one "
        f"does ({has})"
    )


def no_labels(table: TableFile, file: str) -> str:
    """That a table names files, but has no column of labels."""
    return (
        f"{table.name} names files in its column {file!r}, but no column is known for labels: say "
        f"which has them with label_column (it has {', '.join(table.columns[:20])})"
    )
