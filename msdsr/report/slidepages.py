"""The pages of slides, and of places that none of them shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from msdsr.progress import progress
from msdsr.report.doubts import Spot, addressed
from msdsr.report.viewer import Neighbours, SlidePage, Volumes, slide_page
from msdsr.volume.colour import Window

FOLDER = "slides"
SPOT_SIDE = 96
"""Side of the field (pixels) on the page of a place."""


@dataclass(frozen=True)
class ReportSlide:
    """A superresolved slide.

    Parameters
    ----------
    slide, patient
        Who this is.
    acquired
        The volume that was restored (denoised.ome.zarr).
    restored
        From a factor to the store of each method at it.
    truth
        Store of the isotropic truth, if there is one.
    notes
        What the sample sheet says of it.
    spread
        From a factor to the store of each method's standard deviation, where there is one.
    """

    slide: str
    patient: str
    acquired: Path
    restored: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)
    truth: Path | None = None
    notes: str = ""
    spread: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)

    @property
    def volumes(self) -> Volumes:
        """What a page shows of it."""
        return Volumes(self.acquired, self.restored, self.spread, self.truth)


@dataclass
class Pages:
    """Writes pages of slides into a report that is being made.

    Parameters
    ----------
    folder
        The report's folder.
    window
        Intensities shown as black and as full colour until the reader changes them.
    names
        From a slide to the file of its page.
    around
        What stands on every page: ``cohort`` and ``title``.
    """

    folder: Path
    window: Window
    names: Mapping[str, str]
    around: Mapping[str, str]
    made: dict[str, SlidePage] = field(default_factory=dict)
    largest: int = 0

    def write_slides(self, slides: Sequence[ReportSlide], side: int) -> None:
        """Write a page of each slide, one after another."""
        (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        neighbours = [None, *((s.slide, self.names[s.slide]) for s in slides), None]
        with progress("report: slides", len(slides), "slides") as bar:
            for i, one in enumerate(slides):
                around = Neighbours(neighbours[i], neighbours[i + 2])
                page = self._write(one, self.names[one.slide], side, around)
                # Where a page looks is needed later; its text of some megabytes is not.
                self.made[one.slide] = SlidePage("", page.rows, page.columns)
                bar.advance()

    def write_spots(
        self, spots: Sequence[Spot], slides: Mapping[str, ReportSlide], most: int, side: int
    ) -> list[Spot]:
        """Return places with the address that shows each; make a page for some that no page shows.

        Parameters
        ----------
        spots
            Places, the worst first.
        slides
            Slides by name.
        most
            How many pages may be made.
        side
            Side of the field on the page of a slide (pixels); that of a place is smaller.
        """
        (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        extra: dict[str, list[tuple[str, SlidePage]]] = {}
        linked = []
        for spot in spots:
            slide = slides.get(spot.slide)
            if slide is None or spot.factor not in slide.restored:
                linked.append(spot)
                continue
            own = (
                [(self.names[spot.slide], self.made[spot.slide])] if spot.slide in self.made else []
            )
            own += extra.get(spot.slide, [])
            file = next((name for name, page in own if page.shows(spot.y, spot.x)), None)
            if file is None and most > 0:
                most -= 1
                pages = extra.setdefault(spot.slide, [])
                # No other page's name holds a dot before `.html`.
                file = f"{Path(self.names[spot.slide]).stem}.{len(pages) + 1}.html"
                page = self._write(
                    slide, file, min(side, SPOT_SIDE), Neighbours(None, None), (spot.y, spot.x)
                )
                pages.append((file, SlidePage("", page.rows, page.columns)))
            query = quote(spot.slide, safe="")
            linked.append(spot if file is None else addressed(spot, f"{FOLDER}/{file}", query))
        return linked

    def _write(
        self,
        slide: ReportSlide,
        file: str,
        side: int,
        neighbours: Neighbours,
        centre: tuple[int, int] | None = None,
    ) -> SlidePage:
        page = slide_page(
            slide.volumes,
            self.window,
            side,
            **self.around,
            slide=slide.slide,
            patient=slide.patient,
            notes=slide.notes,
            neighbours=neighbours,
            centre=centre,
        )
        content = page.html.encode()
        (self.folder / FOLDER / file).write_bytes(content)
        self.largest = max(self.largest, len(content))
        return page
