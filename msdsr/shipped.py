"""What the installed package carries: the models under `resources/`.

A clone has them in `resources/models/`, which `msdsr/resources` links to; a wheel holds copies. So
a configuration may say `resources/models/phantom-tiny` wherever Snakemake is started.
"""

from __future__ import annotations

from pathlib import Path

PREFIX = "resources"


def model_folder(path: str) -> str:
    """Return where the folder of a frozen model is.

    Parameters
    ----------
    path
        As the configuration gives it (`models.<name>.path`), relative to the working directory; or
        the bare name of a released model, such as ``phantom-tiny``, for `resources/models/` and it.

    Returns
    -------
    str
        `path` itself where something is there, or where the package carries no such folder; else
        the package's own copy, with an absolute path.
    """
    if len(Path(path).parts) == 1 and not Path(path).exists():
        released = f"{PREFIX}/models/{path}"
        found = model_folder(released)
        return found if Path(found).exists() else path
    named = Path(path)
    if named.is_absolute() or named.parts[:1] != (PREFIX,) or ".." in named.parts or named.exists():
        return path
    carried = Path(__file__).parent / named
    return str(carried) if carried.is_dir() else path
