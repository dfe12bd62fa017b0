"""Stands in for `msdsr` where the workflow is tested without the stages.

It notes each command it is given in commands.jsonl and makes the files that the command names as
its products, so that Snakemake runs, records and plans as it would with the real one.
"""

import json
import os
import signal
import sys
from pathlib import Path

VERBS = {
    ("phantom", "slide"): 2,
    ("fetch", "inception"): 2,
    ("fetch", "blastocyst"): 2,
    ("evaluate", "reference"): 2,
    ("evaluate", "slide"): 3,
    ("evaluate", "cohort"): 2,
    ("ingest",): 2,
    ("patch",): 2,
    ("denoise",): 2,
    ("superresolve",): 2,
    ("train",): 2,
    ("trainset", "slide"): 4,
    ("trainset", "build"): 2,
    ("report",): 1,
}
"""Place of the product among the arguments."""


def make(product):
    path = Path(product)
    if path.suffix in ("", ".zarr"):
        path.mkdir(parents=True)
        (path / "content").write_text("made by the stand-in\n")
    else:
        path.write_text("made by the stand-in\n")


def manifest(product):
    path = Path(product)
    path.with_name(path.name.split(".")[0] + ".json").write_text("{}\n")


def option(arguments, name):
    return arguments[arguments.index(name) + 1] if name in arguments else None


def fail_as_the_raw_file_says(raw):
    """A raw file that reads `wrong …` is refused, one that reads `killer` kills its stage."""
    text = Path(raw).read_text()
    if text.startswith("wrong"):
        print(f"msdsr: error: {raw}: {text}", file=sys.stderr)
        raise SystemExit(2)
    if text.startswith("killer"):
        print("ingest: 3 of 7 shards", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def main():
    arguments = sys.argv[1:]
    with Path("commands.jsonl").open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    verb = tuple(arguments[:2]) if tuple(arguments[:2]) in VERBS else tuple(arguments[:1])
    if verb == ("phantom", "slide"):
        make(option(arguments, "--raw"))
        if truth := option(arguments, "--truth"):
            make(truth)
        return
    if verb == ("fetch", "blastocyst"):
        raise SystemExit("the stand-in does not fetch")
    if verb == ("ingest",):
        fail_as_the_raw_file_says(arguments[1])
    if option(arguments, "--part"):
        return  # a part publishes nothing
    product = arguments[VERBS[verb]]
    if verb == ("report",):
        for page in ("index", "tables", "figures", "slides", "pictures", "uncertainty", "method"):
            Path(product, f"{page}.html").write_text("<p>made by the stand-in\n")
        Path(product, "tables").mkdir(exist_ok=True)
        Path(product, "report.zip").write_bytes(b"made by the stand-in")
        Path(product, "slides").mkdir(exist_ok=True)
        Path(product, "slides/one.html").write_text("<p>made by the stand-in\n")
        Path(product, "figures").mkdir(exist_ok=True)
        Path(product, "figures/one.png").write_bytes(b"made by the stand-in")
    else:
        make(product)
    if verb[0] == "trainset":
        Path(product).with_suffix(".parquet").write_text("made by the stand-in\n")
    if verb != ("fetch", "inception"):
        manifest(product)


main()
