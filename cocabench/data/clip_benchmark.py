"""Any data set that the package clip-benchmark builds, without letting it download behind the user's back."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn
from unittest import mock

from cocabench.core.errors import CocabenchError, DataError, MissingDataError, first_line
from cocabench.core.files import check_mat, expanded
from cocabench.core.types import Dataset, Example, ImageSource, Note
from cocabench.data.base import checked
from cocabench.data.images import FileImage, unconverted
from cocabench.data.indexed import Target, located, targets
from cocabench.data.inputs import note_beyond, note_file
from cocabench.data.prompts import class_names, templates
from cocabench.data.webdataset import Exported

UNPACKED = MappingProxyType(
    {
        "caltech101": "caltech101/101_ObjectCategories",
        "cars": "stanford_cars/cars_test_annos_withlabels.mat",
        "cifar10": "cifar-10-batches-py",
        "cifar100": "cifar-100-python",
        "country211": "country211/test",
        "dtd": "dtd/dtd/labels",
        "eurosat": "eurosat/2750",
        "fgvc_aircraft": "fgvc-aircraft-2013b/data",
        "flowers": "flowers-102/imagelabels.mat",
        "food101": "food-101/meta",
        "gtsrb": "gtsrb/GT-final_test.csv",
        "mnist": "MNIST/raw",
        "pcam": "pcam/camelyonpatch_level_2_split_test_x.h5",
        "pets": "oxford-iiit-pet/annotations",
        "renderedsst2": "rendered-sst2/test",
        "stl10": "stl10_binary",
        "sun397": "SUN397/ClassName.txt",
        "voc2007": "VOCdevkit/VOC2007",
        "voc2007_multilabel": "VOCdevkit/VOC2007",
        "vtab/svhn": "test_32x32.mat",
    }
)
"""The file or folder that torchvision's and clip-benchmark's classes look for below their root."""

SVHN = "vtab/svhn"
CALTECH = "caltech101"
"""Of which clip-benchmark's own class does not make images RGB before they are resized."""
FACES = ("fer2013.csv", "icml_face_data.csv")
FACE_LABELS = (0, 1, 2, 3, 5, 6, 4)
"""FER2013's table counts angry, disgust, fear, happy, sad, surprise, neutral; class names are sorted, as folders."""


class ClipBenchmark(Exported):
    """A data set by clip-benchmark's name, with the class names and templates that it gives.

    dataset:  its name there, such as food101; path is the folder that --dataset_root would name. Where what torchvision
              unpacks lies in --data-root itself, which several data sets may share, it is read there.
    split:    its name of the split; all if it has none (Caltech-101, EuroSAT, SUN397).
    language: of class names and templates: en, and for some data sets ar, cn, it, jp.
    Without download=True nothing is fetched: shells, subprocesses and sockets are closed while it builds. Images that
    are files are named by their paths and sorted, others numbered in its order. Of its streams (wds/…, vtab/…, tfds/…)
    only vtab/svhn is served, which torchvision reads; its caption selection tasks are not.
    """

    dataset: str
    split: str = "test"
    language: str = "en"

    @property
    def exported_split(self) -> str:
        return {"all": "test", "trainval": "train"}.get(self.split, self.split)

    def location(self, root: Path) -> Path:
        own, shared = super().location(root), expanded(root).absolute()
        unpacked = UNPACKED.get(self.dataset)
        return (
            shared
            if unpacked and not note_file(own / unpacked).exists() and note_file(shared / unpacked).exists()
            else own
        )

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set; MissingDataError if its files do not exist and download is False."""
        folder = self.location(root)
        note_beyond(folder)
        if not download or self._stream:
            self.folder(root)
        self._check_served()
        items, notes = self._built(folder, download=download)
        names, texts = (tuple(getattr(items, name, None) or ()) for name in ("classes", "templates"))
        _check_folders(items, names, folder)
        examples = sorted(self._examples(items, folder), key=lambda example: example.id)
        labelled = all(example.label is not None for example in examples)
        shown = (names, texts) if labelled else ((), ())
        return checked(Dataset(self.dataset, self.split, examples, *shown, notes), folder, texts=not labelled)

    def _examples(self, items: Any, folder: Path) -> list[Example]:
        try:
            found = targets(items)
            images = located(items, f"{folder}:{self.dataset}")
        except CocabenchError:
            raise
        except Exception as error:  # noqa: BLE001 — another library's reader, and of files that are read only now
            raise DataError(f"{folder}:{self.dataset}", f"not readable ({first_line(error)})") from None
        if None in found:
            raise DataError(f"data.dataset {self.dataset!r}", "items that are neither labelled nor captioned images")
        self.require([image.path for _, image in images if isinstance(image, FileImage)])
        examples = [_example(name, image, target) for (name, image), target in zip(images, found, strict=True)]
        return [unconverted(example) for example in examples] if self.dataset == CALTECH else examples

    @property
    def downloads(self) -> bool:
        return not self._stream

    @property
    def _stream(self) -> bool:
        return self.dataset != SVHN and self.dataset.startswith(("wds/", "vtab/", "tfds/"))

    def _check_served(self) -> None:
        prefix = self.dataset.partition("/")[0]
        if self.dataset == "pcam":
            _need_h5py()
        if self._stream:
            fix = "export it with clip_benchmark_export_wds and use loader = 'webdataset'"
            raise DataError(f"data.dataset {self.dataset!r}", "a stream, not an indexed data set", fix=fix)
        if prefix in ("sugar_crepe", "winoground"):
            got = "a caption selection task: no labels, no retrieval"
            raise DataError(
                f"data.dataset {self.dataset!r}", got, fix=f"use loader = {prefix!r}, or the tasks of this name"
            )

    def _built(self, folder: Path, *, download: bool) -> tuple[Any, tuple[Note, ...]]:
        """Let clip-benchmark build, its prints sent to stderr and its warnings turned into notes."""
        from clip_benchmark.datasets import builder

        task = builder.get_dataset_default_task(self.dataset)
        chosen = {"split": self.split, "language": self.language, "task": task, "download": download}
        guard = (
            _shell_to_stderr(builder) if download else offline(self.missing(folder, "incomplete: it wants to download"))
        )
        _refuse_pipes(folder / UNPACKED.get(self.dataset, "").partition("/")[0])
        try:
            if (table := folder / UNPACKED.get(self.dataset, "")).suffix == ".mat" and note_file(table).is_file():
                check_mat(table)
            with guard, contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                make = reader(self.dataset, folder) or partial(builder.build_dataset, self.dataset)
                items = make(root=str(folder), **chosen)
        except (RuntimeError, OSError, SystemExit) as error:
            unpacked = UNPACKED.get(self.dataset, f"what torchvision or CLIP_benchmark unpacks for {self.dataset}")
            said = first_line(error).partition(". You can use download=True")[0]
            raise self.missing(folder, f"incomplete: {said}", unpacked) from None
        except CocabenchError:
            raise
        except Exception as error:  # noqa: BLE001 — readers of torchvision and others may raise anything
            raise DataError(f"data.dataset {self.dataset!r}", f"not readable ({first_line(error)})") from None
        texts = dict.fromkeys(str(one.message) for one in caught)
        kept = (text for text in texts if self.split != "all" or "split argument ignored" not in text)
        return items, tuple(Note("data", text) for text in kept)


def _need_h5py() -> None:
    """Import it before processes are blocked: importing it starts one."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        fix = "pip install 'cocabench[pcam]'"
        raise DataError("data.dataset 'pcam'", "its files are HDF5, and h5py is not installed", fix=fix) from None


def _check_folders(items: Any, classes: Sequence[str], where: Path) -> None:
    """Raise DataError if there are more or fewer class folders than names: all labels would be shifted."""
    index = getattr(items, "class_to_idx", None)
    folders = getattr(items, "categories", None) or (set(index.values()) if index else ())
    if classes and folders and len(folders) != len(classes):
        wanted = "a folder for each class (Caltech-101 counts BACKGROUND_Google as one), and nothing beside them"
        raise DataError(str(where), f"{len(folders)} class folders for {len(classes)} class names", wanted=wanted)


def _example(name: str, image: ImageSource, target: Target | None) -> Example:
    if isinstance(target, list):
        return Example(name, image, tuple(text.strip() for text in target))
    return Example(name, image, label=target)


def _refuse_pipes(path: Path) -> None:
    """Raise DataError for a pipe or device, or one below a folder: another package would wait for what it gives."""
    if path.is_dir():
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) or not (entry.is_file() or entry.is_dir()):
                    _refuse_pipes(Path(entry))
    elif path.exists() and not path.is_file():
        raise DataError(str(path), "a pipe or device, not a file")


@contextlib.contextmanager
def offline(error: MissingDataError) -> Iterator[None]:
    """Raise the error if this process would start another one or open a connection."""

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


def reader(dataset: str, root: Path) -> Callable[..., Any] | None:
    """Return what builds the data set in clip-benchmark's place; None if that package does."""
    if dataset == SVHN:
        return svhn
    if dataset == "fer2013" and any(note_file(root / "fer2013" / name).is_file() for name in FACES):
        return fer2013
    return None


def svhn(*, root: str, split: str, download: bool, **_: object) -> Any:
    """Return SVHN, which clip-benchmark has from TFDS only."""
    from torchvision import datasets

    return _named(datasets.SVHN(root, split=split, download=download), "svhn")


def fer2013(*, root: str, split: str, **_: object) -> Any:
    """Return FER2013 from the table of its challenge; clip-benchmark reads Kaggle's folders of the same faces."""
    from torchvision import datasets

    items = datasets.FER2013(root, split=split)
    items._samples = [(image, FACE_LABELS[label]) for image, label in items._samples]
    return _named(items, "fer2013")


def _named(items: Any, name: str) -> Any:
    items.classes, items.templates = class_names(name), templates(name)
    return items
