"""cocabench play: a page on which to try models on images."""

from __future__ import annotations

import threading
import webbrowser
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cocabench.cli import names
from cocabench.cli import options as o
from cocabench.cli.console import err, labelled
from cocabench.play import MODELS

if TYPE_CHECKING:
    from cocabench.core.types import Note


def play(
    model: Annotated[
        str,
        o.option("MODEL", "One or two models, with a comma between them.", "--model", autocompletion=names.models),
    ] = MODELS,
    images: Annotated[Path | None, o.option("DIR", "Folder of images to search by text.")] = None,
    host: Annotated[
        str, o.option("HOST", "Address to listen on; 0.0.0.0 serves everyone who can reach this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, o.option("PORT", "Port; 0 chooses a free one.", min=0, max=65535)] = 7860,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.AUTO,
    quick_gelu: o.QuickGelu = None,
    preprocess: o.Preprocess = "",
    cache: o.Cache = None,
    open_page: Annotated[bool, o.flag("--open", "Open the page in a browser.")] = False,
) -> None:
    """Try models on a page: captions as they are written, likelihoods, own classes, search by text.

    Nothing leaves this machine, and it needs no internet. Needs gradio: pip install 'cocabench[play]'.

    Example: cocabench play --model coca_ViT-L-14:laion2b_s13b_b90k --images photos/
    """
    from cocabench.core.cache import open_cache, spaces_folder
    from cocabench.play.page import check_installed, served
    from cocabench.play.session import load

    check_installed()
    with ExitStack() as held:
        kept = held.enter_context(open_cache(spaces_folder(cache), _noted)) if images else None
        playground = load(
            model,
            images=images,
            device=device,
            precision=precision.value,
            quick_gelu=quick_gelu,
            preprocess=preprocess,
            cache=kept,
        )
        for note in playground.notes:
            _noted(note)
        address = held.enter_context(served(playground, host=host, port=port))
        err.print(f"serving {address} (press Ctrl-C to stop)", soft_wrap=True)
        if open_page:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _noted(note: Note) -> None:
    labelled("note", note.text)
