"""Turn a moving molecule in three dimensions: `MoleculeMovie`."""

import warnings
from typing import Any

import numpy as np

from dltlab.display import show_widget
from dltlab.errors import Invalid, Unavailable

_HEIGHT = 300  # pixels
_FRAME_MILLISECONDS = 80


class MoleculeMovie:
    """A widget that plays the motion of a molecule in 3-D, with nglview.

    Drag to turn the molecule, scroll to zoom. It draws in the browser, with WebGL and without a
    network. A bond is drawn between atoms that are close in the first frame.

    Args:
        numbers: Atomic numbers `(atoms,)` of H, C, N or O.
        positions: `(frames, atoms, 3)`, in angstroms.
        name: Of the molecule, for those who do not see the widget.

    Attributes:
        widget: The ipywidgets widget, for use in other layouts.
        frames: The positions around their center, float32 `(frames, atoms, 3)`.

    Raises:
        Invalid: The shapes do not fit, there is no frame, an element is another one, or the first
            frame is not one of a molecule.
        Unavailable: nglview is not installed.
    """

    def __init__(self, numbers: Any, positions: Any, name: str = "the molecule") -> None:
        from dltlab.models import ELEMENTS, check_molecule

        numbers, frames = np.asarray(numbers), np.array(positions, np.float32)
        if frames.ndim != 3 or not len(frames) or frames.shape[1:] != (len(numbers), 3):
            raise Invalid(
                f"A movie of a molecule with {len(numbers)} atoms has positions (frames, "
                f"{len(numbers)}, 3), not {frames.shape}."
            )
        check_molecule(numbers, frames[0])
        try:
            import ipywidgets

            with warnings.catch_warnings():  # it imports pkg_resources, which is deprecated
                warnings.simplefilter("ignore")
                import nglview
        except ModuleNotFoundError as error:
            raise Unavailable(
                "The 3-D view needs nglview, which is not installed. Run: pip install "
                "'dltlab[science]', then start JupyterLab again."
            ) from error
        frames -= frames.mean(axis=(0, 1))  # the center of what is seen
        symbols = [ELEMENTS[int(number)] for number in numbers]

        class Movie(nglview.Structure, nglview.Trajectory):  # type: ignore[misc]
            """The first frame as text, and the coordinates of each frame."""

            ext, id, shown, n_frames = "pdb", "movie", True, len(frames)

            def __init__(self) -> None:
                self.params: dict[str, str] = {}

            def get_structure_string(self) -> str:
                return "\n".join(
                    f"HETATM{number:5} {symbol:<4} MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
                    f"  1.00  0.00          {symbol:>2}"
                    for number, (symbol, (x, y, z)) in enumerate(
                        zip(symbols, frames[0], strict=True), start=1
                    )
                )

            def get_coordinates(self, index: int) -> Any:
                return frames[index]

        view = nglview.NGLWidget(Movie())
        view.layout.height = f"{_HEIGHT}px"
        play = ipywidgets.Play(max=len(frames) - 1, interval=_FRAME_MILLISECONDS, repeat=True)
        slider = ipywidgets.IntSlider(max=len(frames) - 1, description="Frame")
        ipywidgets.jslink((play, "value"), (slider, "value"))
        slider.observe(lambda change: setattr(view, "frame", change["new"]), "value")
        self._name, self.frames = name, frames
        self.widget = ipywidgets.VBox([view, ipywidgets.HBox([play, slider])])

    def show(self) -> None:
        """Show the movie; without a front end, print what it shows."""
        show_widget(self.widget, str(self))

    def __str__(self) -> str:
        count, atoms = self.frames.shape[:2]
        return f"A 3-D movie of {self._name}: {atoms} atoms, {count} frames."
