import io

import numpy as np
import pytest
from PIL.GifImagePlugin import GifImageFile

from dltlab import distribute
from dltlab.distribute.piece_drawing import draw_gif, draw_strip


def test_an_animation_plays_three_times_and_ends_with_the_last_state():
    run = distribute.all_reduce([np.zeros(4)] * 4)
    gif = draw_gif(run.contents, run.steps)
    image = GifImageFile(io.BytesIO(gif))

    assert len(gif) < 60_000
    assert image.info["loop"] == 2
    image.seek(image.n_frames - 1)
    cells = np.array(image.convert("RGB"))[30:, 60:].reshape(4, 30, 4, 64, 3)
    assert (cells == cells[:1, :, :1]).all()  # every rank has all pieces


@pytest.mark.parametrize("num_ranks", [1, 8])
def test_a_strip_has_an_arrow_for_each_message(num_ranks):
    run = distribute.all_reduce([np.zeros(4)] * num_ranks, algorithm="tree")
    figure = draw_strip(run.contents, run.steps, "tree")

    arrows = sum(len(axes.texts) for axes in figure.axes)
    assert arrows == sum(len(step) for step in run.steps)
