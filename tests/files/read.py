"""Reads a delivered dataset with pandas, polars, DuckDB and openpyxl, and compares it with the records themselves.

Arguments: dataset, file.xlsx, file.csv, file.parquet. The node and the token are in the environment.
"""

import datetime
import json
import sys

import duckdb
import openpyxl
import pandas
import polars

import crosspark

dataset, xlsx, csv, parquet = sys.argv[1:]
node = crosspark.Node()
records = list(node.records(dataset))
names = ["name", "count", "size", "free", "day", "seen", "tags"]


def plain(value):
    """A value of any library as JSON has it."""
    if value is None or value is pandas.NaT or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (datetime.datetime, pandas.Timestamp)):
        if value.tzinfo is None and (value.hour, value.minute) == (0, 0):
            return value.strftime("%Y-%m-%d")
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, str) and value.startswith("["):
        return json.loads(value)
    return value


def check(who, rows):
    found = [{name: plain(value) for name, value in row.items() if plain(value) is not None} for row in rows]
    expected = [{name: record[name] for name in names if name in record} for record in records]
    assert found == expected, f"{who}: {found} is not {expected}"


check("pandas", crosspark.load(dataset, columns=names).to_dict("records"))
check("polars", node.load(dataset, "polars", columns=names).to_dicts())
check("polars of the file", polars.read_parquet(parquet).select(names).to_dicts())
relation = duckdb.sql(f"SELECT {', '.join(names)} FROM '{parquet}'")
check("DuckDB", [dict(zip(names, row)) for row in relation.fetchall()])
table = pandas.read_csv(csv, dtype={"name": str})
assert list(table["count"]) == [record.get("count") for record in records], "pandas of the CSV"
book = openpyxl.load_workbook(xlsx)
assert book.sheetnames == ["data", "provenance"], book.sheetnames
header, *rows = book["data"].iter_rows(values_only=True)
rows = [dict(zip(header, row)) for row in rows]
check("openpyxl", [{name: row[name] for name in names} for row in rows])
origin = dict(row for row in book["provenance"].iter_rows(values_only=True))
assert origin["dataset"] == dataset and origin["records"] == str(len(records)), origin
assert [record["name"] for record in node.records(dataset, where="count>=3", limit=2)] == ["甲, 007"]
try:
    node.load("urn:uuid:00000000-0000-4000-8000-000000000000")
    raise AssertionError("a dataset that was not delivered was read")
except crosspark.CrossparkError as error:
    assert error.status == 404, error
print("same")
