"""Watch where a Transformer looks while it writes: `AttentionSampler`."""

from typing import TYPE_CHECKING

import numpy as np

from dltlab.data import Vocabulary
from dltlab.widgets.text_sampler import WIDE, TextSampler, escaped

if TYPE_CHECKING:
    import keras

_MAX_READ = 512  # symbols that a map is computed for; maps grow with their square
_ALL_HEADS = "all heads"
_FAINTEST = 0.1  # strength of a color that is drawn
# The color stays readable on a light and on a dark page, under text of the page's own color.
_COLOR = "rgba(86, 180, 233, {:.2f})"
_ATTENTION_STYLE = """<style>
.dltlab-sampler pre mark { color: inherit; }
.dltlab-sampler pre mark.dltlab-present { outline: 2px solid #d55e00; background: none; }
</style>"""


class AttentionSampler(TextSampler):
    """A `TextSampler` that colors the characters that the network looks at.

    While a text is written, the colors are those for its last character, from which the next one is
    predicted. The slider "Look from" goes back to an earlier one, which is outlined. The darker a
    character, the larger its weight: the strength of a color is the root of the weight, relative to
    the largest one.

    Args:
        model: A network of `models.char_transformer`.
        vocabulary: The vocabulary that the model was trained with.
        prompt: The text to continue.
        num_characters: The length of a text.

    Raises:
        Invalid: The model has no blocks of attention, or does not fit the vocabulary.
    """

    redraw_seconds = 0.0  # after each character: the maps take some time, which is the pace
    styles = TextSampler.styles + _ATTENTION_STYLE

    def __init__(
        self,
        model: "keras.Model",
        vocabulary: Vocabulary,
        *,
        prompt: str = "",
        num_characters: int = 120,
    ) -> None:
        import ipywidgets

        from dltlab.models import attention_maps

        self._model, self._vocabulary, self._maps_of = model, vocabulary, attention_maps
        super().__init__(model, vocabulary, prompt=prompt, num_characters=num_characters)
        num_blocks, heads = attention_maps(model, np.zeros(1, np.int32)).shape[:2]
        names = [f"block {b + 1}, head {h + 1}" for b in range(num_blocks) for h in range(heads)]
        self._head = ipywidgets.Dropdown(
            options=[_ALL_HEADS, *names], description="Head", style=WIDE,
            tooltip="All heads: the mean of their weights",
        )  # fmt: skip
        self._place = ipywidgets.IntSlider(
            0, min=0, max=0, description="Look from", style=WIDE, readout=False,
            tooltip="The character from which the next one is predicted",
        )  # fmt: skip
        self._maps, self._text_drawn = np.zeros((1, 1, 0, 0), np.float32), ""
        for control in (self._head, self._place):
            control.observe(lambda change: self._draw(), "value")
        *others, output = self.widget.children
        self.widget.children = [*others, self._head, self._place, output]

    def _show(self, prompt: str) -> None:
        """Show the text so far, with the colors of its last character."""
        text = prompt + self._text
        # A character that the vocabulary lacks is refused before anything is written.
        ids = self._vocabulary.encode(text[-_MAX_READ:])
        self._maps = self._maps_of(self._model, ids) if len(ids) else self._maps[..., :0, :0]
        self._text_drawn = text
        last = max(0, len(text) - 1)
        self._place.max = last
        if self._place.value == last:
            self._draw()
        else:
            self._place.value = last  # draws

    def _draw(self) -> None:
        """Show the text with the colors of the chosen head and character."""
        self._output.value = f'<pre aria-label="The text">{self._colored()}</pre>'

    def _colored(self) -> str:
        """Return the text as HTML."""
        text, length = self._text_drawn, self._maps.shape[-1]
        unread = len(text) - length  # at the beginning of a long text
        row = self._place.value - unread
        if not 0 <= row < length:
            return escaped(text)
        weights = self._weights()[row]
        strengths = np.sqrt(weights / max(weights.max(), 1e-9))  # so that small weights are seen
        parts = [escaped(text[:unread])]
        for place, character in enumerate(text[unread:]):
            shown = escaped("↵\n" if character == "\n" else character)
            color = _COLOR.format(strengths[place])
            present = ' class="dltlab-present"' if place == row else ""
            style = "" if present else f' style="background: {color}"'
            is_plain = strengths[place] < _FAINTEST and not present
            parts.append(shown if is_plain else f"<mark{present}{style}>{shown}</mark>")
        return "".join(parts)

    def _weights(self) -> np.ndarray:
        """Return the weights of the chosen head, or their mean, `(n, n)`."""
        heads: np.ndarray = self._maps.reshape(-1, *self._maps.shape[2:])
        number = self._head.index
        weights: np.ndarray = heads.mean(axis=0) if number == 0 else heads[number - 1]
        return weights
