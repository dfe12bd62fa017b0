"""Full resolution in a browser: neuroglancer, served on this machine to this machine alone."""

from msdsr.view.found import Shown, find_shown
from msdsr.view.napari import napari_command
from msdsr.view.state import viewer_state

__all__ = ["Shown", "find_shown", "napari_command", "viewer_state"]
