"""The playground of cocabench as a Hugging Face Space. Its variable MODEL names one or two models."""

import os
from threading import Event

from cocabench.play import MODELS
from cocabench.play.page import served
from cocabench.play.session import load

PORT = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))

playground = load(os.environ.get("MODEL", MODELS))
with served(playground, host="0.0.0.0", port=PORT, frame="'self' https://huggingface.co https://*.hf.space") as address:
    print("serving", address, flush=True)
    Event().wait()
