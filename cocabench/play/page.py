"""The playground's page, made with gradio, and its server: no telemetry, nothing loaded from other machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from cocabench.core.errors import CocabenchError, UsageError
from cocabench.core.files import Limit, open_regular
from cocabench.core.formatting import plural
from cocabench.core.temporary import temporary_folder
from cocabench.data.builtin import Emoji
from cocabench.data.images import BytesImage, shown
from cocabench.models.base import Model
from cocabench.play import markup
from cocabench.play.session import Playground
from cocabench.specs.decoding import DEFAULTS, UNREAD, DecodingOptions

Upload = Mapping[str, Any] | None
"""A file as gradio keeps it, with path and orig_name; None if there is none."""

UNREAD_INPUTS: dict[str, Any] = {"preprocess": False, "trigger_mode": "always_last", "api_visibility": "private"}
"""Of events: what is typed and dropped is checked here, not by gradio. What is asked for while the answer before is
written comes after it. No address of its own for programs."""

INSTALL = "pip install 'cocabench[play]'"
UPLOAD_BYTES = Limit("COCABENCH_MAX_UPLOAD_BYTES", 50_000_000, "bytes in an upload")
KEPT_S = 3600
"""Uploads are removed after this time."""

THUMBNAIL = (320, 320)
EXAMPLES = ("1f600", "1f436", "1f98a", "1f355", "1f697", "1f680", "1f3b8", "1f308")
"""Emoji of the demo, by their code points."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""So that the browser, too, asks no other machine for anything."""

FIELDS = ("num_beams", "num_beam_groups", "decoding", "length_penalty", "diversity_penalty", "top_k", "top_p",
          "temperature", "seed", "seq_len", "min_seq_len", "repetition_penalty")  # fmt: skip


@contextmanager
def served(
    playground: Playground, *, host: str = "127.0.0.1", port: int = 7860, frame: str = "'self'"
) -> Iterator[str]:
    """Serve the page during the body, and yield its address; uploads are removed at the end.

    host: an address to listen on. port 0 chooses a free one. frame: who may show the page in a frame. Raises UsageError
    if gradio is not installed or the port cannot be used.
    """
    with temporary_folder("cocabench-play-") as folder:
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "GRADIO_TEMP_DIR": str(folder),
        }
        gradio = _gradio()
        page = _page(gradio, playground, folder)
        page.queue(api_open=False)
        try:
            _, address, _ = page.launch(**_settings(gradio, host, port, frame))
        except OSError as error:
            raise UsageError("play", f"cannot listen on {host}:{port} ({error})", wanted="another --port") from None
        try:
            yield str(address)
        finally:
            page.close(verbose=False)
            playground.close()


def check_installed() -> None:
    """Raise UsageError, before models are loaded, if gradio is not installed."""
    if find_spec("gradio") is None:
        raise UsageError("play", "gradio is not installed", fix=INSTALL)


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise UsageError("play", f"gradio is not importable ({error})", fix=INSTALL) from None
    return gradio


def _settings(gradio: Any, host: str, port: int, frame: str) -> dict[str, Any]:
    """Return launch's arguments: no link to share, no monitoring, no history, no server in another language."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    loopback = host in ("127.0.0.1", "localhost", "::1")
    middleware = [Middleware(Headers, frame=frame)]
    if loopback:  # against DNS rebinding, as `cocabench serve`
        middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "*.localhost", host]))
    system = ["system-ui", "sans-serif"]
    return {
        "server_name": host,
        "server_port": port or _free_port(host),
        "theme": gradio.themes.Default(font=system, font_mono=["ui-monospace", "monospace"]),
        "css": markup.CSS,
        "app_kwargs": {"middleware": middleware, "docs_url": None, "redoc_url": None, "openapi_url": None},
        "max_file_size": UPLOAD_BYTES.most,
        "prevent_thread_lock": True,
        "quiet": True,
        "share": False,
        "inbrowser": False,
        "enable_monitoring": False,
        "run_history": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "footer_links": [],
    }


class Headers:
    """ASGI middleware that adds headers to every answer."""

    def __init__(self, app: Any, frame: str) -> None:
        policy = HEADERS["Content-Security-Policy"].replace("frame-ancestors 'self'", f"frame-ancestors {frame}")
        every = {**HEADERS, "Content-Security-Policy": policy}
        self._app, self._headers = app, [(name.lower().encode(), value.encode()) for name, value in every.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


def _free_port(host: str) -> int:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _page(gradio: Any, playground: Playground, folder: Path) -> Any:
    """Lay the page out."""
    with gradio.Blocks(title="cocabench playground", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)) as page:
        gradio.Markdown("# cocabench playground")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=260):
                image = gradio.Image(label="Image", sources=["upload", "clipboard"], height=280)
                files = _examples(folder / "examples")
                gradio.Examples([[file] for file in files], image, label="Examples", examples_per_page=len(files))
            with gradio.Column(scale=2, min_width=260):
                if any("caption" in model.abilities for model in playground.models):
                    with gradio.Tab("Caption"):
                        _caption_tab(gradio, playground, image)
                with gradio.Tab("Rank"):
                    _own_tab(gradio, playground, image)
                with gradio.Tab("Classes"):
                    _classes_tab(gradio, playground, image)
                if playground.files:
                    with gradio.Tab("Search"):
                        _search_tab(gradio, playground)
    return page


def _opened(upload: Mapping[str, Any] | None) -> BytesImage:
    """Return an upload as gradio hands it over unread: gradio would let Pillow try every format that it knows."""
    if not upload or not upload.get("path"):
        raise UsageError("image", "none", fix="drop one, or choose an example")
    name = PurePath(upload.get("orig_name") or "image").name
    try:
        with open_regular(Path(upload["path"])) as file:
            UPLOAD_BYTES.check(os.fstat(file.fileno()).st_size, name)
            return BytesImage(file.read(), name)
    except FileNotFoundError:
        raise UsageError(name, "uploads are kept for an hour", fix="drop it again") from None


def _examples(folder: Path) -> list[str]:
    """Write emoji of the demo as files, and return their paths."""
    folder.mkdir()
    found = {example.id: example.image for example in Emoji().build(Path()).examples}
    for code in EXAMPLES:
        found[code].open().save(folder / f"{code}.png")
    return [str(folder / f"{code}.png") for code in EXAMPLES]


def _results(gradio: Any, playground: Playground, said: str) -> list[Any]:
    """Put the models' results side by side, on a phone one below the other."""
    with gradio.Row():
        boxes = []
        for model in playground.models:
            with gradio.Column(min_width=220):
                boxes.append(gradio.HTML(markup.empty(model.id, said)))
    return boxes


def _caption_tab(gradio: Any, playground: Playground, image: Any) -> None:
    """Captions of all models, and the options of the decoder that the type of generation reads."""
    kind = gradio.Radio(["beam_search", "greedy", "top_k", "top_p"], value="beam_search", label="Generation")
    prompt = gradio.Textbox(label="First words", max_length=200, max_lines=1)
    with gradio.Accordion("Options", open=False):
        fields = {name: _field(gradio, name) for name in FIELDS}
    run = gradio.Button("Write captions", variant="primary")
    boxes = _results(gradio, playground, "Drop an image, or choose an example.")
    gradio.HTML(
        '<div class="coca"><p class="small">Above each word: its probability in percent, given the image and the words '
        "before it. The redder, the less likely. ⏎ is the end.</p></div>"
    )

    def read(chosen: str) -> list[Any]:
        return [gradio.update(visible=name not in UNREAD[chosen]) for name in FIELDS]

    def write(picture: Upload, chosen: str, first: str, *values: Any) -> Iterator[list[str]]:
        given = {name: value for name, value in zip(FIELDS, values, strict=True) if name not in UNREAD.get(chosen, ())}
        made = [markup.empty(model.id) for model in playground.models]
        for n, model in enumerate(playground.models):
            for made[n] in _captions(playground, model, picture, {"generation_type": chosen, **given}, first):
                yield made

    kind.change(read, kind, list(fields.values()), show_progress="hidden", api_visibility="private")
    inputs = [image, kind, prompt, *fields.values()]
    gradio.on(
        [run.click, prompt.submit, image.upload],
        write, inputs, boxes, show_progress="hidden", **UNREAD_INPUTS,
    )  # fmt: skip


def _field(gradio: Any, name: str) -> Any:
    """Return the field of an option of the decoder, with its default."""
    value, label = getattr(DEFAULTS, name), name.replace("_", " ").capitalize()
    if name == "decoding":
        return gradio.Radio(["legacy", "logprob"], value=value, label=label)
    whole = isinstance(value, int)
    return gradio.Number(
        value, label=label, precision=0 if whole else None, step=1 if whole else 0.1,
        visible=name not in UNREAD["beam_search"], min_width=120,
    )  # fmt: skip


def _captions(
    playground: Playground, model: Model, picture: Upload, values: dict[str, Any], first: str
) -> Iterator[str]:
    """Yield a model's result as it grows."""
    try:
        options = _checked(values)
        for made in playground.caption(model, _opened(picture), options, first.strip()):
            yield markup.growing(model.id, made) if isinstance(made, str) else markup.written(model.id, made)
    except CocabenchError as error:
        yield markup.failed(model.id, error)


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """Return options of the decoder; UsageError for a value that it cannot have."""
    for name, value in values.items():
        if value is None:
            raise UsageError(name, "empty", wanted="a number")
    try:
        return DecodingOptions(**values).model_dump(include=set(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(str(first["loc"][0]), f"got {first['input']}", wanted=first["msg"]) from None


def _own_tab(gradio: Any, playground: Playground, image: Any) -> None:
    """Own captions, ranked by each model."""
    texts = gradio.Textbox("a dog\na smiling face\na slice of pizza", label="Captions, one a line", lines=4)
    run = gradio.Button("Rank captions", variant="primary")
    boxes = _results(gradio, playground, "Log-likelihood of the whole caption; cosine of image and text.")
    _on_click(run, partial(_each, playground, _ranked), [image, texts], boxes)


def _ranked(playground: Playground, model: Model, picture: Upload, texts: str) -> str:
    return markup.ranked(model.id, playground.rank(model, _opened(picture), texts.splitlines()))


def _classes_tab(gradio: Any, playground: Playground, image: Any) -> None:
    """Zero-shot classes typed by hand."""
    demo = playground.models[0].id.startswith("demo/")
    names = gradio.Textbox("dog\nfox\npizza\ncar", label="Classes, one a line", lines=4)
    template = gradio.Textbox("{c}" if demo else "a photo of a {c}.", label="Template", max_lines=1)
    run = gradio.Button("Classify", variant="primary")
    boxes = _results(gradio, playground, "Softmax of cosines times the checkpoint's own scale.")
    _on_click(run, partial(_each, playground, _classified), [image, names, template], boxes)


def _classified(playground: Playground, model: Model, picture: Upload, names: str, template: str) -> str:
    return markup.classified(model.id, playground.classify(model, _opened(picture), names.splitlines(), template))


def _search_tab(gradio: Any, playground: Playground) -> None:
    """Search the folder of --images by text."""
    by_id = {model.id: model for model in playground.models}
    ids = list(by_id)
    text = gradio.Textbox(label=f"Search {plural(len(playground.files), 'image', form=',')}", max_lines=1)
    chosen = gradio.Radio(ids, value=ids[0], label="Model", visible=len(ids) > 1)
    run = gradio.Button("Search", variant="primary")
    said = gradio.HTML()
    gallery = gradio.Gallery(label="Best matches", columns=4, object_fit="contain", elem_classes="matches")

    def search(typed: str, name: str) -> tuple[str, list[tuple[Any, str]]]:
        try:
            found = playground.search(by_id.get(name, playground.models[0]), typed)
            return "", [(_thumbnail(one.image), f"{one.cosine:.3f} {one.name}") for one in found]
        except CocabenchError as error:
            return markup.failed(name, error), []

    for event in (run.click, text.submit):
        event(search, [text, chosen], [said, gallery], **UNREAD_INPUTS)


def _thumbnail(image: Any) -> Any:
    picture = shown(image)
    picture.thumbnail(THUMBNAIL)
    return picture


def _each(playground: Playground, work: Callable[..., str], *given: Any) -> Sequence[str]:
    """Return each model's result; an error in its place is one line."""
    made = []
    for model in playground.models:
        try:
            made.append(work(playground, model, *given))
        except CocabenchError as error:
            made.append(markup.failed(model.id, error))
    return made if len(made) > 1 else made[0]


def _on_click(button: Any, work: Any, inputs: list[Any], outputs: list[Any]) -> None:
    button.click(work, inputs, outputs, **UNREAD_INPUTS)
