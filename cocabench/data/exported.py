"""Data sets that people have in their own files, or as CLIP_benchmark's webdatasets: many first hosts are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cocabench.core.errors import MissingDataError
from cocabench.core.types import Dataset
from cocabench.data.base import LocalLoader
from cocabench.data.webdataset import WebDataset
from cocabench.specs.aliases import task_name


class Exported(LocalLoader):
    """A loader of a data set that may also lie below --data-root as a webdataset.

    wds: CLIP_benchmark's name of it as a webdataset: vtab/pets for its wds/vtab/pets; '' where it has none. Its folder
         (wds_vtab-pets, DataComp's wds_vtab-pets_test, or wds/vtab/pets, all also without vtab) is read where path is
         not there, and path itself where it holds shards. Class names are the folder's, so that they fit its labels;
         its split is the loader's own, under CLIP_benchmark's name.
    """

    wds: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set, from its own files or its webdataset; MissingDataError where neither is there."""
        if (place := self._webdataset(root)) is None:
            return self.read(root, download=download)
        shards = WebDataset(path=place, split=self.exported_split, source=self.source)
        return replace(shards.build(root), name=self.name)

    def read(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set from its own files; MissingDataError where they are not there."""
        raise NotImplementedError

    def missing(self, where: Path, got: str, wanted: str = "") -> MissingDataError:
        error = super().missing(where, got, wanted)
        if not self.wds or self.path == (folder := self._folders()[0]):
            return error
        other = f"or CLIP_benchmark's webdataset {folder} (of clip-benchmark or djghosh on Hugging Face)"
        return MissingDataError(error.where, error.got, wanted=error.wanted, fix=f"{error.fix}, {other}")

    @property
    def exported_split(self) -> str:
        """CLIP_benchmark's name of the split."""
        return str(getattr(self, "split", "test"))

    def _webdataset(self, root: Path) -> str | None:
        """Return the folder below root that holds the set's webdataset; None where its own files are to be read."""
        if not self.wds:
            return None
        if self.location(root).exists():
            return self.path if any((self.location(root) / self.exported_split).glob("*.tar")) else None
        return next((folder for folder in self._folders() if (root.expanduser() / folder).is_dir()), None)

    def _folders(self) -> tuple[str, ...]:
        """Return what its folder may be called. Where VTAB's split is the set's own, DataComp may leave vtab- out."""
        names = dict.fromkeys((self.wds, task_name(self.wds)))
        flat = ["wds_" + name.replace("/", "-") for name in names]
        return (*flat, *(f"{name}_{self.exported_split}" for name in flat), *(f"wds/{name}" for name in names))
