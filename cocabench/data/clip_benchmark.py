"""Any data set that the package clip-benchmark builds, without letting it download behind the user's back."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from cocabench.data.base import LocalLoader, sound
from cocabench.data.images import ItemImage
from cocabench.data.targets import Target, targets
from cocabench.errors import DataError, MissingDataError
from cocabench.types import Dataset, Example


class ClipBenchmark(LocalLoader):
    """A data set by clip-benchmark's name, with the class names and templates that it gives.

    dataset:  its name there, such as food101; path is the folder that --dataset_root would name.
    split:    its name of the split.
    language: of class names and templates: en, and for some data sets ar, cn, it, jp.
    Without download=True nothing is fetched: shells, subprocesses and sockets are closed while it builds. Items are
    numbered in its order. Its streams (wds/…, vtab/…, tfds/…) and its caption selection tasks are not served.
    """

    dataset: str
    split: str = "test"
    language: str = "en"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set; MissingDataError where its files are not there and download is False."""
        folder = self.location(root)
        self._check_served()
        if not download:
            self.folder(root)
        items, notes = self._built(folder, download=download)
        found = targets(items)
        if None in found:
            raise DataError(f"data.dataset {self.dataset!r}", "items that are neither labelled nor captioned images")
        examples = [_example(k, items, target, f"{folder}:{self.dataset}") for k, target in enumerate(found)]
        labelled = all(example.label is not None for example in examples)
        classes, templates = (_texts(getattr(items, name, None)) for name in ("classes", "templates"))
        if not labelled:
            classes = templates = ()
        dataset = Dataset(self.dataset, self.split, examples, classes, templates, notes)
        return sound(dataset, folder, texts=not labelled)

    def _check_served(self) -> None:
        prefix = self.dataset.partition("/")[0]
        if prefix in ("wds", "vtab", "tfds"):
            fix = "export it with clip_benchmark_export_wds and use loader = 'webdataset'"
            raise DataError(f"data.dataset {self.dataset!r}", "a stream, not an indexed data set", fix=fix)
        if prefix in ("sugar_crepe", "winoground"):
            got = "a caption selection task: no labels, no retrieval"
            raise DataError(
                f"data.dataset {self.dataset!r}", got, fix=f"use loader = {prefix!r}, or the tasks of this name"
            )

    def _built(self, folder: Path, *, download: bool) -> tuple[Any, tuple[str, ...]]:
        """Let clip-benchmark build, its prints sent to stderr and its warnings turned into notes."""
        from clip_benchmark.datasets import builder

        task = builder.get_dataset_default_task(self.dataset)
        chosen = {"split": self.split, "language": self.language, "task": task, "download": download}
        guard = (
            _shell_to_stderr(builder) if download else offline(self.missing(folder, "incomplete: it wants to download"))
        )
        try:
            with guard, contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                items = builder.build_dataset(self.dataset, root=str(folder), **chosen)
        except (RuntimeError, OSError, SystemExit) as error:
            wanted = f"what torchvision or CLIP_benchmark unpacks for {self.dataset}"
            raise self.missing(folder, f"incomplete: {_first_line(error)}", wanted) from None
        except (AssertionError, ValueError, KeyError) as error:
            raise DataError(f"data.dataset {self.dataset!r}", _first_line(error)) from None
        return items, tuple(dict.fromkeys(str(one.message) for one in told))


def _example(index: int, items: Any, target: Target | None, where: str) -> Example:
    image = ItemImage(items, index, where)
    if isinstance(target, list):
        return Example(f"{index:06d}", image, tuple(text.strip() for text in target))
    return Example(f"{index:06d}", image, label=target)


def _texts(value: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(value or ())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def offline(error: MissingDataError) -> Iterator[None]:
    """Raise the error wherever this process would start another one or open a connection."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise error

    closed = ((subprocess.Popen, "__init__"), (os, "system"), (socket.socket, "connect"), (socket, "getaddrinfo"))
    with contextlib.ExitStack() as stack:
        for owner, name in closed:
            stack.enter_context(mock.patch.object(owner, name, refuse))
        yield


def _shell_to_stderr(builder: Any) -> contextlib.AbstractContextManager[Any]:
    """Keep what the shell commands of a download print off our stdout."""
    return mock.patch.object(builder, "call", partial(subprocess.call, stdout=2))
