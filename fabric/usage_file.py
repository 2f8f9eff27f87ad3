"""Usage as a file: CSV for spreadsheets, Parquet for whoever asks DuckDB or pandas. One column for each key of `fabric.usage_form`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, Literal

from fabric.usage_form import MODEL_ROW_KEYS, ROW_KEYS, flat_rows, safe_cell

Format = Literal["csv", "parquet"]
MEDIA: Mapping[str, str] = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_TEXTS = {"name", "user", "flavor_hours"}
_COUNTS = {"pending", "running", "ended", "replicas", "requests", "errors"}


def file_bytes(form: Mapping[str, Any], kind: Format) -> bytes:
    """`form`: as of `fabric.usage_form`. In CSV what a spreadsheet might run as a formula is text; Parquet has names as they are."""
    return _csv(form) if kind == "csv" else _parquet(form)


def _csv(form: Mapping[str, Any]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    keys = _keys(form)
    writer.writerow(keys)
    writer.writerows([safe_cell(row[key]) for key in keys] for row in flat_rows(form))
    return out.getvalue().encode()


def _parquet(form: Mapping[str, Any]) -> bytes:
    import pyarrow as pa  # it takes a while, and the API needs it for this alone
    import pyarrow.parquet as pq

    def kind(key: str) -> Any:
        return pa.string() if key in _TEXTS else pa.int64() if key in _COUNTS else pa.float64()

    schema = pa.schema([(key, kind(key)) for key in _keys(form)], metadata={b"tierfabric usage": form["by"].encode()})
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(flat_rows(form), schema=schema), out)
    return out.getvalue()


def _keys(form: Mapping[str, Any]) -> tuple[str, ...]:
    return MODEL_ROW_KEYS if form["by"] == "model" else ROW_KEYS
