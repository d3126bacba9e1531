"""Datasets that a crosspark node has received, as frames of pandas or polars.

The node decides what the token may read, and logs each reading. Nothing is kept on this machine but what is returned.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["CrossparkError", "Node", "load"]


class CrossparkError(Exception):
    """The node refused; `status` and `code` say why, for programs."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Node:
    """A park's node, for the user whose token this is.

    `url` and `token` are by default those of the environment: CROSSPARK_NODE and CROSSPARK_TOKEN.
    """

    def __init__(self, url: str | None = None, token: str | None = None, timeout_s: float = 60.0) -> None:
        self.url = (url or os.environ.get("CROSSPARK_NODE", "http://127.0.0.1:8080")).rstrip("/")
        self._token = token or os.environ.get("CROSSPARK_TOKEN", "")
        if not self._token:
            raise CrossparkError(0, "token", "give a token: Node(token=...), or CROSSPARK_TOKEN in the environment")
        self.timeout_s = timeout_s

    def open(
        self,
        dataset: str,
        format: str = "parquet",
        *,
        columns: Iterable[str] | None = None,
        where: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
        skip_empty: bool = False,
    ) -> io.BufferedIOBase:
        """The newest version of a dataset that was delivered, as a stream of bytes.

        `dataset` is the dataset's id; `where` has conditions such as ``area=CHN and period>=2015``; `offset` and
        `limit` choose a page of records without reading the others.
        """
        query = {
            "columns": columns if isinstance(columns, str) else ",".join(columns or []) or None,
            "where": where,
            "offset": offset,
            "limit": limit,
            "skipEmpty": "true" if skip_empty else None,
        }
        query = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        path = f"/v1/datasets/{urllib.parse.quote(dataset, safe='')}/latest.{format}"
        return self._get(f"{path}?{query}" if query else path)

    def records(self, dataset: str, **choice: Any) -> Iterator[dict[str, Any]]:
        """The records one after the other, lists and objects included; the choice is that of `open`."""
        with self.open(dataset, "ndjson", **choice) as lines:
            for line in lines:
                yield json.loads(line)

    def load(self, dataset: str, frame: str = "pandas", **choice: Any) -> Any:
        """The records as a frame of ``pandas`` or ``polars``; the choice is that of `open`.

        Lists and objects are texts with JSON.
        """
        with self.open(dataset, "parquet", **choice) as stream:
            data = io.BytesIO(stream.read())
        if frame == "pandas":
            import pandas

            return pandas.read_parquet(data)
        if frame == "polars":
            import polars

            return polars.read_parquet(data)
        raise ValueError(f"{frame!r} is neither 'pandas' nor 'polars'")

    def files(self, dataset: str, folder: str | os.PathLike[str], **choice: Any) -> list[pathlib.Path]:
        """Writes the files of a dataset of documents below `folder`; the choice is that of `open`.

        Returns where they are. What is there under the same names is replaced.
        """
        with tempfile.TemporaryFile() as archive:
            with self.open(dataset, "zip", **choice) as stream:
                shutil.copyfileobj(stream, archive)
            with zipfile.ZipFile(archive) as opened:
                written = []
                for entry in opened.infolist():
                    if entry.filename.startswith("files/"):
                        entry.filename = entry.filename.removeprefix("files/")
                        written.append(pathlib.Path(opened.extract(entry, folder)))
                return written

    def _get(self, path: str) -> io.BufferedIOBase:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self._token}"})
        try:
            return urllib.request.urlopen(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            body = error.read()
            try:
                problem = json.loads(body)
            except ValueError:
                problem = {}
            detail = problem.get("detail", f"the node answered {error.code}")
            raise CrossparkError(error.code, problem.get("title", ""), detail) from None
        except urllib.error.URLError as error:
            detail = f"the node at {self.url} cannot be reached ({error.reason})"
            raise CrossparkError(0, "unreachable", detail) from None


def load(dataset: str, frame: str = "pandas", **choice: Any) -> Any:
    """`Node.load` of the node in the environment."""
    return Node().load(dataset, frame, **choice)
