"""A loader: a folder of images, and a table `pairs.txt` with an image, its caption and a wrong one on each line."""

from pathlib import Path

from cocabench.core.errors import DataError
from cocabench.core.types import Dataset, Example
from cocabench.data.base import LocalLoader, checked
from cocabench.data.images import FileImage


class Pairs(LocalLoader):
    """Rows of pairs.txt: image, caption and wrong caption, separated by tabs."""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        folder = self.folder(root)
        self.require([table := folder / "pairs.txt"])
        examples = []
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            row = line.split("\t")
            if len(row) != 3:
                raise DataError(f"{table}:{number}", f"{len(row)} columns", wanted="image, caption and wrong caption")
            image, own, wrong = row
            examples.append(Example(image, FileImage(folder / image), (own,), negatives=((wrong,),)))
        return checked(Dataset(self.name, "all", examples), folder, texts=True)
