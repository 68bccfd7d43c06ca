"""A generator of bad inputs: damaged files and strange arguments for every command and every kind of file.

python -m tests.bad_inputs --number 5000 --seed 0     make and try them; print those that fail, and the counts
python -m tests.bad_inputs --only 17 --seed 0         one of them, with its whole output

Input k of a seed is always the same. What must hold: no traceback, no hang, an exit code of 0, 1 or 2, an error that is
one line and says so by the exit code, and nothing lost or changed of the user's files.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

HANG_S = 300
NASTY: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), float("inf"), 0.5, "", " ", "\0", "\x1b[2J", "\ud800", "é",
    "a" * 300, "../../x", "/dev/null", "~nouser/x", "{", "}", "%s", "a,b", "a:b", [], {}, [[]], [None], {"a": {}},
    {"": 0}, [1, "a"], "NaN", "1e999", "hf-hub:a b", "open_clip::x", "pipe:true",
]  # fmt: skip
"""Values in place of a value."""

WORDS = (
    "", " ", "-", "0", "-1", "1e309", "nan", "é", "\udcff", "a" * 300, "~nouser/x", "/dev/null", "/", ".", "..", ",",
    ":", "::", "a::b", "open_clip::x", "ViT-B-32:", "hf-hub:", "hf-hub:a b", "demo/x", "published:", "published:x:y",
    "[", "{a", "*", "\n", "\x1b[2J", "99999999999999999999",
)  # fmt: skip
"""Arguments in place of an argument."""

Tree = dict[str, bytes]
"""{path below the case's folder: content}."""


class Target(NamedTuple):
    """Files, which of them are damaged, and the commands that read them.

    same: what must be stored in the folder ``out`` whatever is damaged, {metric: value}; None for anything.
    fails: {part of a command: what it says even of whole files}; all others succeed on them.
    """

    files: Tree
    damaged: tuple[str, ...]
    commands: tuple[str, ...]
    same: dict[str, Any] | None = None
    fails: Mapping[str, str] = MappingProxyType({})


class Failure(NamedTuple):
    number: int
    what: str
    words: str
    output: str


def damaged(content: bytes, name: str, chance: random.Random) -> bytes:
    """Return a file's content with one fault: in a value of JSON, a line of TOML or a table, else in its bytes."""
    if name.endswith((".json", ".jsonl")) and chance.random() < 0.7:
        with contextlib.suppress(ValueError, RecursionError):
            return _with_a_value(content, name, chance)
    if name.endswith(".toml") and chance.random() < 0.7:
        return _with_a_line(content, chance)
    if name.endswith((".csv", ".tsv", ".txt")) and chance.random() < 0.6:
        return _with_a_cell(content, chance)
    return _with_bytes(content, chance)


def _with_a_value(content: bytes, name: str, chance: random.Random) -> bytes:
    first, *rest = content.split(b"\n") if name.endswith("l") else [content]
    value = json.loads(first)
    places = list(_places(value)) if isinstance(value, dict | list) else []
    if not places:
        return json.dumps(chance.choice(NASTY)).encode()
    holder, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("x", "", "\ud800", "a" * 300))] = holder.pop(key)
        case _:
            holder[key] = chance.choice(NASTY)
    return b"\n".join([json.dumps(value).encode(), *rest])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _with_a_line(content: bytes, chance: random.Random) -> bytes:
    lines = content.decode(errors="replace").split("\n")
    if not content.strip():
        return b"x = 1"
    k = chance.choice([k for k, line in enumerate(lines) if line.strip()])
    values = (
        '""',
        '" "',
        "0",
        "-1",
        "nan",
        "inf",
        "1e308",
        "[]",
        "[[]]",
        "{}",
        "true",
        '"\\u0000"',
        '"' + "a" * 300 + '"',
    )
    key, equals, _ = lines[k].partition("=")
    match chance.randrange(4):
        case 0:
            del lines[k]
        case 1:
            lines.insert(k, chance.choice(("x = 1", lines[k], "[x]", "[[variants]]", "= 1", "x = " + "9" * 5000)))
        case _:
            lines[k] = f"{key}= {chance.choice(values)}" if equals else chance.choice(values)
    return "\n".join(lines).encode()


def _with_a_cell(content: bytes, chance: random.Random) -> bytes:
    lines = content.decode(errors="replace").split("\n")
    k = chance.randrange(len(lines))
    cells = lines[k].split(mark := "\t" if "\t" in lines[k] else ",")
    cells[chance.randrange(len(cells))] = chance.choice(
        ("", " ", "\0", '"', "-1", "nan", "3.5", "a" * 300, "../x", "\x1b[2J", "x,y")
    )
    lines[k] = mark.join(cells) if chance.random() < 0.8 else ""
    return "\n".join(lines).encode()


def _with_bytes(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    match chance.randrange(9):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + chance.randbytes(chance.choice((1, 8, 200))) + content[at:]
        case 2:
            return content[:at] + bytes(k ^ 255 for k in content[at : at + 4]) + content[at + 4 :]
        case 3:
            return content + content
        case 4:
            return b""
        case 5:
            return b"\0" * len(content)
        case 6:
            return b"[" * 100_000 + b"]" * 100_000
        case 7:
            return chance.choice(
                (b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html><p>", b"\xff\xfe", b"null")
            )
        case _:
            return chance.randbytes(100)


def written(target: Target, folder: Path) -> None:
    """Write a target's files, with the folder's path where they have FOLDER."""
    for path, content in target.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.replace(FOLDER.encode(), str(folder).encode()))


def words_of(command: str, folder: Path) -> list[str]:
    """Return a command's words. d: the case's folder. o: the folder that it writes. u: the address of the hub."""
    from tests.bad_input_commands import hub

    return command.format(d=folder, o=folder / "out", u=hub().url if "{u}" in command else "").split()


def case(number: int, seed: int, targets: dict[str, Target], folder: Path) -> tuple[str, list[str]]:
    """Write input ``number`` into a folder; return its target and its words."""
    chance = random.Random(f"{seed}:{number}")
    name = chance.choice(sorted(targets))
    target = targets[name]
    written(target, folder)
    words = words_of(chance.choice(target.commands), folder)
    if target.damaged and chance.random() < 0.9:
        file = chance.choice(target.damaged)
        _damage(folder / file, chance)
    else:
        _spoil(words, chance)
    return name, words


def _damage(path: Path, chance: random.Random) -> None:
    kind = chance.randrange(5 if PLUGIN in path.parts else 0, 30)
    content = path.read_bytes()
    if kind < 5:
        path.unlink()
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        path.symlink_to("/dev/null")
    elif kind > 4:
        for _ in range(chance.choice((1, 1, 1, 3))):
            content = damaged(content, path.name, chance)
        path.write_bytes(content)


def _spoil(words: list[str], chance: random.Random) -> None:
    k = chance.randrange(1, len(words))
    match chance.randrange(5):
        case 0:
            del words[k]
        case 1:
            words.insert(k, chance.choice(WORDS))
        case _:
            words[k] = chance.choice(WORDS)


def tried(number: int, seed: int, targets: dict[str, Target]) -> Failure | None:
    """Run an input in this process; return what is wrong with how it ended."""
    with tempfile.TemporaryDirectory(prefix="bad-") as name:
        folder = Path(name)
        target, words = case(number, seed, targets, folder)
        before = _state(folder)
        shown = f"{target}: cocabench {' '.join(words)}".replace(name, "D")
        code, output, fault, printed = run(words, folder)
        what = fault or wrong(code, output, plugin=(folder / PLUGIN).is_dir())
        what = what or ("control characters on stdout" if "\x1b" in printed or "\0" in printed else "")
        what = what or _lost(before, _state(folder), words if code == 0 else ())
        if not what and targets[target].same is not None and code == 0 and (folder / "out").is_dir():
            what = "another number" if stored(folder / "out") not in ({}, targets[target].same) else ""
        return Failure(number, what, shown, output) if what else None


def undamaged(targets: dict[str, Target]) -> Iterator[Failure]:
    """Run each command on whole files; yield those that do not succeed: what is damaged there would never be read."""
    for name, target in targets.items():
        for words in dict.fromkeys(target.commands) if target.damaged else ():
            with tempfile.TemporaryDirectory(prefix="good-") as place:
                written(target, folder := Path(place))
                code, output, fault, _ = run(words_of(words, folder), folder)
                expected = next((said for part, said in target.fails.items() if part in words), "")
                good = code in (1, 2) and expected in output if expected else code == 0
                what = fault or wrong(code, output) or ("" if good else f"exit code {code}")
                if what:
                    yield Failure(0, what, f"{name}: {words}", output)


def stored(folder: Path) -> dict[str, Any]:
    """Return {metric: value} of the Records in a results folder."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*/*-????????????.json")):
        found |= {name: estimate["value"] for name, estimate in json.loads(path.read_text())["metrics"].items()}
    return found


@contextlib.contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """Work in a case's folder, with its cache, its plugin and what the hub has where it has them."""
    before, cache = os.getcwd(), os.environ.get("COCABENCH_CACHE")
    os.chdir(folder)
    if (folder / OWN_CACHE).is_dir():
        os.environ["COCABENCH_CACHE"] = str(folder / OWN_CACHE)
    sys.path.insert(0, str(folder / PLUGIN))
    if (folder / HUB).is_dir():
        from tests.bad_input_commands import hub

        own = [path for path in (folder / HUB).rglob("*") if path.is_file()]
        hub().files = {path.relative_to(folder / HUB).as_posix(): path.read_bytes() for path in own}
        hub().listed = (folder / LISTING).read_bytes() if (folder / LISTING).is_file() else b""
    try:
        yield
    finally:
        sys.path.remove(str(folder / PLUGIN))
        sys.modules.pop("bad_plugin", None)
        os.chdir(before)
        os.environ.pop("COCABENCH_CACHE", None)
        os.environ.update({"COCABENCH_CACHE": cache} if cache else {})


PLUGIN, OWN_CACHE, REQUESTS, HUB, LISTING, FOLDER = "plugin", "own_cache", "requests", "hub", "listing.json", "@FOLDER@"
HUBS_NOTES = "root/set/.cache"
"""What huggingface_hub keeps beside what it fetched: its own, and made again where it is damaged."""


def asked(server: Any, poll_interval: float = 0.5) -> None:
    """Stand in for ``serve_forever``: send what lies in the case's folder, then a request that must be answered."""
    import http.client
    import socket
    import threading

    thread = threading.Thread(target=type(server).__mro__[1].serve_forever, args=(server, 0.01))
    thread.start()
    try:
        for file in sorted(Path(REQUESTS).iterdir()):
            with contextlib.suppress(OSError), socket.create_connection(server.where, timeout=10) as client:
                client.sendall(file.read_bytes() if file.is_file() else b"GET")
                client.shutdown(socket.SHUT_WR)
                client.recv(100)
        connection = http.client.HTTPConnection(*server.where, timeout=10)
        connection.request("GET", "/")
        if connection.getresponse().status != http.HTTPStatus.OK:
            raise AssertionError("the list of reports")
    finally:
        server.shutdown()
        thread.join()


class HangError(BaseException):
    """A command takes too long. No error of its own, which it could take for one of the system."""


class Ended(NamedTuple):
    """How a command ended. fault: what nothing may have."""

    code: int
    err: str
    fault: str
    out: str


def run(words: list[str], folder: Path) -> Ended:
    """Run ``cocabench WORDS`` in this process."""
    from cocabench import cli
    from cocabench.cli import console
    from cocabench.report.serve import Server

    def late(*_: object) -> None:
        raise HangError

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_S)
    before, sys.argv = sys.argv, ["cocabench", *words]
    console.out.file, console.err.file = out, err
    Server.serve_forever = asked  # type: ignore[method-assign]
    try:
        with surroundings(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
        return Ended(code, err.getvalue(), "", out.getvalue())
    except BaseException:  # noqa: BLE001 — whatever ends a command otherwise is what is looked for
        return Ended(-1, err.getvalue() + traceback.format_exc(), "a traceback", "")
    finally:
        signal.alarm(0)
        sys.argv = before
    return Ended(0, err.getvalue(), "", out.getvalue())


LABELS = ("error ", "failed ", "note ", "skipped ", "serving ", "waiting ")


def wrong(code: int, output: str, *, plugin: bool = False) -> str:
    """Return what is wrong with an exit code and the lines on stderr; '' for nothing.

    plugin: there is one, whose faults may have a traceback that names it.
    """
    if plugin and "this is a bug of the plugin bad" in output:
        output = re.sub(r"(?ms)^unexpected error in .*?^(?=error |failed |note |\Z)", "", output)
        output = output.replace("this is a bug of the plugin bad", "")
    lines = [line for line in output.split("\n") if line.startswith(("error ", "failed "))]
    if "Traceback" in output or "this is a bug" in output:
        return "a traceback"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if code == 0 and lines:
        return "an error with exit code 0"
    if sum(line.startswith("error ") for line in lines) > 1:
        return "several errors"
    listed = any(line.startswith("error ") and line.rstrip().endswith(":") for line in lines)
    starts = (*LABELS, "  ") if listed else LABELS
    more = [line for line in output.split("\n") if line.strip() and not line.startswith(starts)]
    if code == 2 and more:
        return f"more than a line: {more[0][:100]}"
    if any(mark in output for mark in ("\x1b[2J", "\0", "Errno", "errors.pydantic.dev")):
        return "raw words of the terminal, the system or pydantic"
    return "a silent failure" if code == 2 and not output.strip() else ""


def _state(folder: Path) -> dict[str, str]:
    """Return {path: digest} of the user's files in a folder: all but what the command was asked to write."""
    found = {}
    for path in sorted(folder.rglob("*")):
        ours = ("out", "cache", OWN_CACHE, HUBS_NOTES, f"{PLUGIN}/__pycache__")
        if path.is_file() and not any(path.is_relative_to(folder / name) for name in ours):
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _lost(before: dict[str, str], after: dict[str, str], words: Sequence[str]) -> str:
    """Return which of the user's files is gone. words: of a command that succeeded, which may have had to change some.

    The gate updates a baseline, whose Records may be others then; ``data fetch`` makes good what it wrote.
    """
    records = (".json", ".parquet") if "--update" in words else ()
    gone = [path for path, digest in before.items() if after.get(path) != digest]
    gone = [path for path in gone if not (path.startswith("old/") and path.endswith(records))]
    gone = [path for path in gone if not ("fetch" in words and path in after and path.startswith("root/set/"))]
    return f"lost or changed: {gone[0]}" if gone else ""


def workers(numbers: range, seed: int, folder: Path, target: str) -> Iterator[Failure | None]:
    """Try inputs in processes of their own, in turn: one that kills its process is a failure, and the next go on."""
    todo = list(numbers)
    while todo:
        more = ["--work", str(folder), "--seed", str(seed), "--target", target, *map(str, todo[:1000])]
        words = [sys.executable, "-m", "tests.bad_inputs", *more]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout, "a pipe"
            for line in process.stdout:
                number, found = json.loads(line)
                assert number == todo.pop(0), "in their order"
                yield Failure(*found) if found else None
            died = process.wait()
            if died and todo:
                assert process.stderr, "a pipe"
                number = todo.pop(0)
                yield Failure(number, f"kills the process ({died})", "", process.stderr.read()[-3000:])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--target", default="", help="only targets whose names hold this")
    parser.add_argument("--undamaged", action="store_true", help="see that each command succeeds on whole files")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("numbers", nargs="*", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.undamaged:
        return _undamaged(given.target)
    if given.work:
        return _work(given.work, given.seed, given.numbers, given.target)
    numbers = range(given.number) if given.only is None else range(given.only, given.only + 1)
    print(f"seed {given.seed}, {len(numbers)} inputs")
    failures = []
    for found in filter(None, all_tried(numbers, given.seed, given.target)):
        failures.append(found)
        shown = found.output[-1500:] if given.only is None else found.output
        print(f"#{found.number} {found.what}: {found.words}\n{shown}", flush=True)
    print(
        f"tried {len(numbers)}, failed {len(failures)}:",
        dict(Counter(found.what.partition(":")[0] for found in failures)),
    )
    return int(bool(failures))


def all_tried(numbers: range, seed: int, target: str = "") -> Iterator[Failure | None]:
    """Try the inputs, with a cache and models in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as name:
        yield from workers(numbers, seed, Path(name), target)


def _undamaged(target: str) -> int:
    from tests.bad_input_files import targets

    with tempfile.TemporaryDirectory(prefix="good-inputs-") as name:
        os.environ["COCABENCH_CACHE"] = f"{name}/cache"
        failures = list(undamaged(targets(Path(name) / "shared", target)))
    for found in failures:
        print(f"{found.what}: {found.words}\n{found.output[-1500:]}", flush=True)
    return int(bool(failures))


def _work(folder: Path, seed: int, numbers: list[int], target: str) -> int:
    import torch

    from tests.bad_input_files import targets

    torch.set_num_threads(1)
    os.environ["COCABENCH_CACHE"] = str(folder / "cache")
    found = targets(folder / "shared" / str(numbers[0]), target)
    stdout = os.fdopen(os.dup(1), "w")
    for number in numbers:
        stdout.write(json.dumps([number, tried(number, seed, found)]) + "\n")
        stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
