"""Writes a CSV file in other formats and dialects, as people's programs do: make.py SOURCE FOLDER."""

import sys
import pandas
import polars

source, folder = sys.argv[1:]
frame = pandas.read_csv(source)
frame.to_csv(f"{folder}/index.csv")
frame.to_csv(f"{folder}/semicolons.csv", sep=";", decimal=",", index=False, encoding="gb18030")
frame.to_csv(f"{folder}/tabs.tsv", sep="\t", index=False, encoding="utf-16")
frame.to_csv(f"{folder}/packed.csv.gz", index=False)
frame.to_csv(f"{folder}/packed.zip", index=False, compression={"method": "zip", "archive_name": "packed.csv"})
frame.to_json(f"{folder}/records.json", orient="records", indent=1, double_precision=15)
frame.to_parquet(f"{folder}/columns.parquet", index=False)
frame.to_feather(f"{folder}/columns.feather")
polars.from_pandas(frame).write_ipc(f"{folder}/columns.arrow", compression="zstd")
polars.from_pandas(frame).write_ipc_stream(f"{folder}/columns.arrows")
frame.to_excel(f"{folder}/book.xlsx", index=False)
frame.to_excel(f"{folder}/book.ods", index=False, engine="odf")

import xlwt

sheet = (book := xlwt.Workbook()).add_sheet("Data")
for column, name in enumerate(frame.columns):
    sheet.write(0, column, name)
    for row, value in enumerate(frame[name]):
        sheet.write(row + 1, column, value if isinstance(value, str) else float(value))
book.save(f"{folder}/book.xls")
