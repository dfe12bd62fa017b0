"""Serve stores and neuroglancer's own pages from one address of this machine.

The pages come from inside the Python package `neuroglancer`; nothing is asked of any other machine.
The address holds a secret, so that other users of this machine, and pages of other sites in the
same browser, do not find the data.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from msdsr.errors import UserError
from msdsr.view.found import Shown
from msdsr.view.state import viewer_state

LOOPBACK = "127.0.0.1"
INSTALL = "pip install 'neuroglancer>=2.40'"


class Service:
    """A running viewer; stops with its ``with`` block.

    Parameters
    ----------
    stores
        What it shows.
    port
        Where it listens; 0 takes any free one.

    Attributes
    ----------
    url
        The address to open, secret included.

    Raises
    ------
    UserError
        When the package is not installed, or the port is taken.
    """

    def __init__(self, stores: Sequence[Shown], port: int = 0) -> None:
        neuroglancer = _package()
        token = secrets.token_urlsafe(24)
        _check_port(port)
        neuroglancer.set_server_bind_address(LOOPBACK, port)
        # It may hand no credentials of this account to the page.
        self._viewer = neuroglancer.Viewer(token=token, allow_credentials=False)
        self._module = neuroglancer.server
        server = self._module.global_server
        base = f"{server.server_url}/zarr/{token}"
        rules = [
            (rf"/zarr/{token}/{number}/(.*)", _handler(), {"path": str(store.path)})
            for number, store in enumerate(stores)
        ]
        server.app.add_handlers(r".*", rules)
        urls = [f"zarr://{base}/{number}/" for number in range(len(stores))]
        self._viewer.set_state(viewer_state(stores, urls))
        self.url = str(self._viewer.get_viewer_url())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._module.stop()


def _check_port(port: int) -> None:
    """Refuse a port that is taken; neuroglancer would end in a traceback, and half started."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError as error:
            raise UserError(
                "--port", f"{port} cannot be had ({error.strerror})", "a free port, or 0 for any"
            ) from None


def _package() -> Any:
    try:
        import neuroglancer
    except ImportError:
        raise UserError(
            "view", "the package `neuroglancer` is not installed", None, INSTALL
        ) from None
    return neuroglancer


def _handler() -> type:
    """Return what answers for the files of a store, parts of them included."""
    from tornado.web import StaticFileHandler

    class StoreFiles(StaticFileHandler):
        """Files of one store; hidden ones are Zarr v2's metadata."""

        def compute_etag(self) -> str | None:
            # Tornado's reads the whole file, and shards are large.
            return None

        @classmethod
        def get_content_version(cls, abspath: str) -> str:
            return ""

        def set_extra_headers(self, path: str) -> None:
            self.set_header("Cache-Control", "no-cache")

        def get_content_type(self) -> str:
            json = self.path.endswith((".json", ".zarray", ".zattrs", ".zgroup"))
            return "application/json" if json else "application/octet-stream"

    return StoreFiles
