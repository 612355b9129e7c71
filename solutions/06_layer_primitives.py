# ---
# title: Layer primitives
# summary: >-
#   A library such as cuDNN computes the layers of a network. You write its main routines yourself,
#   in NumPy: convolution forward and backward in three ways, Winograd's algorithm, and a fused LSTM
#   cell. You check them against TensorFlow, and let measurements pick the fastest for each shape.
# objectives:
#   - predict from strides which operations on a 4-d array copy it
#   - compute a convolution directly, as a matrix product and with the FFT
#   - write both gradients of a convolution as convolutions, and check a gradient numerically
#   - compute a 3 × 3 convolution with 2.25 times fewer multiplications, and measure the error
#   - pick an algorithm by measuring, and say when two threads help
# minutes: {read: 40, exercise: 60, compute: 2}
# memory_gb: 3
# devices: {gpu: optional}
# datasets: []
# requires: [02_image_classification, 03_recurrent_networks]
# profiles:
#   smoke:
#     SHAPES: [[2, 8, 3, 4, 3], [1, 12, 2, 3, 5]]
#     ROUNDS: 2
#     MAP_CHANNELS: [2, 4]
#     MAP_KERNELS: [1, 3]
#     MAP_SIZE: 10
#     WINOGRAD_CHANNELS: [2, 4]
#     THREAD_SIZES: [8]
#   workshop: {}
#   full: {ROUNDS: 21, MAP_CHANNELS: [1, 2, 4, 8, 16, 32, 64], MAP_KERNELS: [1, 3, 5, 7, 9, 11, 15]}
# ---

# %% [markdown]
# ## The question
# When you call a convolution in TensorFlow on an NVIDIA GPU, cuDNN usually computes it. A slide of
# 2017 describes this library in six lines: *forward and backward paths for many common layer types;
# forward and backward convolution routines; LSTM, GRU, and persistent RNNs; arbitrary dimension
# ordering, striding and sub-regions for 4-d tensors; tensor transformation functions (NCHW, CHWN,
# NHWC); context-based API allows for easy multithreading.*
#
# What is behind each line, and why is it a library of its own? In this lab you write such routines
# yourself, in NumPy. We begin with one convolution, computed three times: with seven loops in
# Python, with NumPy, and with TensorFlow on the same single core. How far apart are they?

# %%
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from timeit import timeit

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import psutil
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

from dltlab import devices
from dltlab.checks import layer_primitives as ex
from dltlab.display import NEUTRAL, PALETTE, show
from dltlab.errors import Invalid

# %% tags=["parameters"]
SHAPES = [  # of convolutions: images, rows and columns of each, channels in, channels out, kernel
    [8, 34, 3, 32, 3],
    [8, 34, 32, 32, 3],
    [8, 10, 128, 128, 3],
    [8, 32, 64, 64, 1],
    [2, 38, 16, 32, 7],
    [2, 64, 8, 8, 15],
]
ROUNDS = 7  # of each measurement
WINOGRAD_CHANNELS = [4, 16, 64, 256]  # in and out, of layers that are timed with both algorithms
MAP_CHANNELS = [2, 8, 32, 64]  # of the map at the end: channels in and out
MAP_KERNELS = [1, 3, 5, 9, 15]
MAP_SIZE = 48  # rows and columns of the two images; products of 2, 3 and 5 suit the FFT
THREAD_SIZES = [8, 64]  # channels of two layers on two threads

# %%
devices.setup(precision="float32", seed=1, threads=1)
one_core = threadpool_limits(1, user_api="blas")  # NumPy's matrix products, too
BLUE, ORANGE, GREEN, PINK = PALETTE[:4]
rng = np.random.default_rng(1)


def random(*shape):
    """An array of normally distributed numbers in float32."""
    return rng.standard_normal(shape, "float32")


def convolve_loops(images, kernel):
    """A convolution in seven loops: images (n, rows, columns, channels), kernel like Keras'."""
    n, rows, columns, channels = images.shape
    height, width, _, outputs = kernel.shape
    result = np.zeros((n, rows - height + 1, columns - width + 1, outputs), images.dtype)
    for place in np.ndindex(result.shape):
        image, row, column, output = place
        for i, j, channel in np.ndindex(height, width, channels):
            result[place] += (
                images[image, row + i, column + j, channel] * kernel[i, j, channel, output]
            )
    return result


# %% [markdown]
# This is what a convolution layer computes with "valid" padding, without a bias, and with a stride
# of 1. All convolutions of this lab are of this kind. The images have the layout NHWC: image, row
# (height), column (width), channel. Padding only means adding zeros around the images beforehand.
#
# The second version loops over the positions of the kernel only. For each of them, it multiplies a
# sub-region of all images by a matrix of the kernel. It first checks whether the shapes fit.


# %%
def output_shape(images, kernel):
    """The shape of a convolution's result; names shapes that do not fit."""
    both = f"images of shape {images.shape} and a kernel of shape {kernel.shape}"
    if images.ndim != 4 or kernel.ndim != 4:
        raise Invalid(f"Both need four axes: {both}.")
    (n, rows, columns, channels), (height, width, inputs, outputs) = images.shape, kernel.shape
    if channels != inputs:
        raise Invalid(f"The channels differ, {channels} and {inputs}: {both}.")
    if height > rows or width > columns:
        raise Invalid(f"The kernel is larger than the images: {both}.")
    return n, rows - height + 1, columns - width + 1, outputs


def direct(images, kernel):
    """A convolution as one matrix product for each position of the kernel."""
    shape = output_shape(images, kernel)
    _, rows, columns, _ = shape
    result = np.zeros(shape, images.dtype)
    for i, j in np.ndindex(kernel.shape[:2]):
        result += images[:, i : i + rows, j : j + columns] @ kernel[i, j]
    return result


def tensorflow(images, kernel):
    """TensorFlow's convolution of NumPy arrays, on the processor."""
    with tf.device("CPU"):
        return tf.nn.conv2d(tf.constant(images), tf.constant(kernel), 1, "VALID").numpy()


# %% [markdown]
# We measure in *rounds*, in which each call has its turn, so that a busy moment of the machine does
# not affect only one of them. Other programs can only make a call slower, so we compare the
# shortest times.


# %%
seconds_of = partial(timeit, number=1)  # calls a function once


def in_turns(calls, rounds=ROUNDS):
    """The shortest seconds of each of `calls`, a dict of functions, after a warm-up."""
    seconds = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            elapsed = seconds_of(call)
            if number:
                seconds[name].append(elapsed)
    return {name: min(values) for name, values in seconds.items()}


images, kernel = random(1, 12, 12, 4), random(3, 3, 4, 8)
ways = {"seven loops": convolve_loops, "NumPy": direct, "TensorFlow": tensorflow}
times = in_turns({name: partial(way, images, kernel) for name, way in ways.items()}, rounds=3)
macs = 10 * 10 * 8 * 3 * 3 * 4

figure, axes = plt.subplots(figsize=(7, 1.9), layout="constrained")
values = [1e9 * seconds / macs for seconds in times.values()]
for place, (value, color) in enumerate(zip(values, (NEUTRAL, BLUE, ORANGE), strict=True)):
    axes.plot(value, place, "o", color=color, markersize=9)
    axes.text(1.5 * value, place, f"{value:,.1f} ns", va="center")
axes.set(xscale="log", xlabel="time per multiply-add (ns)", ylabel="written with")
axes.set(xlim=(min(values) / 2, 20 * max(values)), title="One convolution, three times")
axes.set_yticks(range(3), list(times))
axes.set_ylim(2.5, -0.5)
text = ", ".join(f"{name} {value:.2f} ns" for name, value in zip(times, values, strict=True))
show(figure, f"Three points, the time per multiply-add: {text}.")

# %% [markdown]
# On such a small layer, both libraries spend much of their time on starting their work: TensorFlow
# also copies the arrays. The rest of the lab is about larger layers, where the algorithm matters.
#
# ## Layouts and strides
# Memory is one long row of numbers. A *layout* says in which order the elements of a 4-d array are
# stored. The figure shows an array of two images (a and b) with 2 × 2 pixels (0 to 3) and three
# channels (colors), in three layouts. In which of them are all channels of a pixel side by side?

# %%
small = np.arange(24).reshape(2, 2, 2, 3)  # NHWC; the numbers only name the elements
LAYOUTS = {"NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2), "CHWN": (3, 1, 2, 0)}
figure, axes = plt.subplots(figsize=(10, 2.2), layout="constrained")
for row, order in enumerate(LAYOUTS.values()):
    for address, element in enumerate(small.transpose(order).ravel()):
        image, pixel, channel = element // 12, element // 3 % 4, element % 3
        color = (BLUE, ORANGE, GREEN)[channel]
        axes.barh(row, 0.94, left=address - 0.47, height=0.8, color=color, alpha=0.85)
        label = f"{'ab'[image]}{pixel}"
        axes.text(address, row, label, ha="center", va="center", color="white", fontsize=9)
axes.set_yticks(range(3), list(LAYOUTS))
axes.set_xticks(range(0, 24, 2))
axes.set(xlabel="address in memory (elements)", ylabel="layout", xlim=(-0.6, 23.6))
axes.set_title("The same array in three layouts: blue, orange and green are its channels")
axes.invert_yaxis()
axes.spines[["top", "right", "left"]].set_visible(False)
description = "Three rows of 24 addresses. In NHWC the three colors alternate; in NCHW four of a "
show(
    figure, f"{description}color are side by side; in CHWN the two images alternate within a color."
)

# %% [markdown]
# NumPy describes an array by an address, a shape and *strides*: for each axis, how far apart two
# neighbors are in memory. A *view* of the same memory needs only a new address, shape and strides.
# If no strides lead from each element to the next, the numbers must be copied.

# %%
ex.free_transform.ask()

# %% tags=["solution"]
ex.free_transform.answer("c")

# %% [markdown]
# The next cell tries these operations and more. Compare the strides with the figure: why are those
# of NCHW the ones of NHWC in another order?

# %%
batch = random(8, 32, 32, 16)  # NHWC
operations = {
    "the batch": lambda x: x,
    "NCHW: x.transpose(0, 3, 1, 2)": lambda x: x.transpose(0, 3, 1, 2),
    "CHWN: x.transpose(3, 1, 2, 0)": lambda x: x.transpose(3, 1, 2, 0),
    "region: x[:, 4:20, 8:24]": lambda x: x[:, 4:20, 8:24],
    "every other pixel: x[:, ::2, ::2]": lambda x: x[:, ::2, ::2],
    "upside down: x[:, ::-1]": lambda x: x[:, ::-1],
    "one row per pixel: x.reshape(-1, 16)": lambda x: x.reshape(-1, 16),
    "NCHW, one row per channel": lambda x: x.transpose(0, 3, 1, 2).reshape(8 * 16, -1),
    "all 3 × 3 windows": lambda x: sliding_window_view(x, (3, 3), axis=(1, 2)),
}
rows = []
for name, operation in operations.items():
    result = operation(batch)
    strides = tuple(stride // result.itemsize for stride in result.strides)
    copies = "" if np.shares_memory(result, batch) else "copies"
    rows.append((name, result.shape, strides, copies))
pd.DataFrame(rows, columns=["operation", "shape", "strides (elements)", ""]).set_index("operation")

# %% [markdown]
# Sub-regions and changes of the layout are views, as in cuDNN, whose tensor descriptors hold
# strides. Even all 3 × 3 windows, with most numbers nine times, are a view. A view copies nothing,
# but its numbers may lie far apart, and fast code needs them side by side. That is why cuDNN also
# has transformation functions that copy.
#
# ## Convolution as a matrix product
# Matrix products come closer to the peak of a processor than most routines, so a convolution is
# often turned into a single one. Each window of the images becomes one row of a matrix, and the
# kernel becomes a matrix with one column per output channel. This method is *im2col*.
#
# ### Exercise 1: im2col
# The rows of the matrix follow the order of the results: image, row, column. Its columns follow the
# order of the kernel: row and column of the window, then the channel.


# %% tags=["exercise", "nbval-check-output"]
def im2col(images, height, width):
    """All windows of `height` × `width` pixels of `images` (n, rows, columns, channels).

    Returns an array (windows, height * width * channels).
    """
    ### BEGIN SOLUTION
    windows = sliding_window_view(images, (height, width), axis=(1, 2))
    channels = images.shape[3]  # the windows are (n, rows, columns, channels, height, width)
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * channels)
    ### END SOLUTION


ex.im2col.check(im2col)  # also ex.im2col.hint() and ex.im2col.solution()

# %%
windows_of = ex.im2col.or_reference(im2col)  # yours once it passes


def by_matrix(images, kernel, im2col):
    """A convolution as a single matrix product."""
    shape = output_shape(images, kernel)
    height, width, _, outputs = kernel.shape
    return (im2col(images, height, width) @ kernel.reshape(-1, outputs)).reshape(shape)


def error(result, expected):
    """The largest error, relative to the largest expected value."""
    return np.abs(result - expected).max() / np.abs(expected).max()


images, kernel = random(8, 34, 34, 32), random(3, 3, 32, 32)
matrix = windows_of(images, 3, 3)
print(f"The images take {images.nbytes / 1e6:.1f} MB, their matrix {matrix.nbytes / 1e6:.1f} MB.")
difference = error(by_matrix(images, kernel, windows_of), direct(images, kernel))
print(f"Largest difference from the direct result, relative to the largest: {difference:.0e}")

# %% [markdown]
# The price is memory: with a 3 × 3 kernel, each number is copied up to nine times. cuDNN can avoid
# this: "implicit GEMM" forms the matrix piece by piece in the fast memory of the GPU.
#
# ## Convolution with the FFT
# The convolution theorem: after a Fourier transform, a convolution becomes a product of numbers,
# frequency by frequency. The size of the kernel hardly matters, since it is padded with zeros to
# the size of the images. What a layer computes is a correlation (its kernel is not flipped), so we
# take the complex conjugate of the kernel's transform. Over the channels we still have to sum: one
# small matrix product for each frequency.


# %%
def by_fft(images, kernel):
    """A convolution in the frequency domain."""
    _, rows, columns, _ = output_shape(images, kernel)
    size = images.shape[1:3]
    spectra = np.fft.rfft2(images, axes=(1, 2)).transpose(1, 2, 0, 3)
    kernel_spectra = np.fft.rfft2(kernel, size, axes=(0, 1)).conj()
    # Copies, side by side: matrix products of other strides are many times slower.
    products = np.ascontiguousarray(spectra) @ np.ascontiguousarray(kernel_spectra)
    result = np.fft.irfft2(products, size, axes=(0, 1))
    return result[:rows, :columns].transpose(2, 0, 1, 3)


algorithms = {"direct": direct, "matrix": partial(by_matrix, im2col=windows_of), "fft": by_fft}

# %% [markdown]
# Do all three agree with TensorFlow? We state the tolerance first: float32 keeps about seven digits
# and a result is a sum of many products, so an error of 10⁻⁵ of the largest result is acceptable.

# %%
TOLERANCE = 1e-5


def layer(shape):
    """Images and a kernel of a shape as in SHAPES."""
    n, size, inputs, outputs, width = shape
    images = random(n, size, size, inputs)
    kernel = random(width, width, inputs, outputs)
    output_shape(images, kernel)  # names a shape that does not fit
    return images, kernel


def label(shape):
    """A short name of such a shape."""
    n, size, inputs, outputs, width = shape
    return f"{n} × {size}², {inputs}→{outputs}, {width}×{width}"


layers = {label(shape): layer(shape) for shape in SHAPES}
errors = {
    way: {name: error(call(*arrays), tensorflow(*arrays)) for name, arrays in layers.items()}
    for way, call in algorithms.items()
}
errors = pd.DataFrame(errors)
print("All within the tolerance:", bool((errors < TOLERANCE).all(axis=None)))
errors.map("{:.0e}".format)

# %% [markdown]
# ## Backward is forward again
# Training needs two gradients of each convolution: the *filter gradient*, with respect to the
# kernel, and the *data gradient*, with respect to the images. Both are convolutions themselves.
#
# A number of the kernel is multiplied by all pixels of a shifted region. So the filter gradient is
# a convolution of the images, with the output's gradient as a large kernel. Its sums run over the
# images of the batch, which take the place of the channels. Only axes have to be exchanged:


# %%
def filter_gradient(convolve, images, output_gradient):
    """The gradient with respect to the kernel, by any function `convolve(images, kernel)`."""
    result = convolve(images.transpose(3, 1, 2, 0), output_gradient.transpose(1, 2, 0, 3))
    return result.transpose(1, 2, 0, 3)  # (channels, height, width, outputs) before


# %% [markdown]
# The data gradient is a convolution of the output's gradient. A pixel at the border takes part in
# few results, so the gradient gets a border of `height - 1` and `width - 1` zeros on each side. A
# pixel meets the kernel's numbers in the opposite order, from bottom right to top left. And what
# went from input to output channels goes back.
#
# ### Exercise 2: the data gradient
# `convolve(images, kernel)` is any convolution, such as `direct`. Call it once.


# %% tags=["exercise", "nbval-check-output"]
def data_gradient(convolve, kernel, output_gradient):
    """The gradient with respect to the images, with a call of `convolve(images, kernel)`.

    `kernel` is (height, width, inputs, outputs), and `output_gradient` (n, rows, columns, outputs).
    """
    ### BEGIN SOLUTION
    height, width, _, _ = kernel.shape
    borders = ((0, 0), (height - 1, height - 1), (width - 1, width - 1), (0, 0))
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return convolve(np.pad(output_gradient, borders), flipped)
    ### END SOLUTION


ex.data_gradient.check(data_gradient)  # also ex.data_gradient.hint() and .solution()

# %% [markdown]
# With three ways to convolve, you now have nine routines. TensorFlow's automatic differentiation
# tells whether they are correct. The table shows the largest error over all shapes.

# %%
data_gradient_by = ex.data_gradient.or_reference(data_gradient)
output_gradients = {name: random(*output_shape(*arrays)) for name, arrays in layers.items()}


def expected_gradients(images, kernel, output_gradient):
    """Both gradients by TensorFlow."""
    with tf.device("CPU"), tf.GradientTape() as tape:
        x, k = tf.constant(images), tf.constant(kernel)
        tape.watch([x, k])
        total = tf.reduce_sum(tf.nn.conv2d(x, k, 1, "VALID") * output_gradient)
    with tf.device("CPU"):
        return [part.numpy() for part in tape.gradient(total, [x, k])]


checked = {way: {"data gradient": 0.0, "filter gradient": 0.0} for way in algorithms}
for name, (images, kernel) in layers.items():
    expected = expected_gradients(images, kernel, output_gradients[name])
    for way, call in algorithms.items():
        results = (
            data_gradient_by(call, kernel, output_gradients[name]),
            filter_gradient(call, images, output_gradients[name]),
        )
        for kind, result, correct in zip(checked[way], results, expected, strict=True):
            checked[way][kind] = max(checked[way][kind], error(result, correct))
checked = pd.DataFrame(checked)
print("All within the tolerance:", bool((checked < TOLERANCE).all(axis=None)))
checked.map("{:.0e}".format)

# %% [markdown]
# ## Winograd's algorithm
# Fewer multiplications are possible. Take one row of an image, $d_0 … d_3$, and a kernel of three
# numbers. Two results need six multiplications, or only these four:
#
# $$m_0=(d_0-d_2)\,g_0 \qquad m_1=(d_1+d_2)\,\tfrac{g_0+g_1+g_2}{2} \qquad
# m_2=(d_2-d_1)\,\tfrac{g_0-g_1+g_2}{2} \qquad m_3=(d_1-d_3)\,g_2$$
#
# $$y_0=m_0+m_1+m_2 \qquad y_1=m_1-m_2-m_3$$
#
# Multiply out $y_0$ to see that it is $d_0g_0+d_1g_1+d_2g_2$. The factors with $g$ are computed
# once per kernel.
#
# In two dimensions, the same is done to columns and rows: a *tile* of 4 × 4 pixels gives 2 × 2
# results with 16 multiplications instead of 36, which is 2.25 times fewer.
#
# ### Exercise 3: the transforms
# Compute the factors with $d$ from tiles (4, 4, …), and those with $g$ from a kernel (3, 3, …).
# Transform along the first axis, then along the second.


# %% tags=["exercise", "nbval-check-output"]
def transforms(tiles, kernel):
    """The factors of the 16 products, both (4, 4, …), of tiles (4, 4, …), kernel (3, 3, …)."""
    ### BEGIN SOLUTION
    for _ in range(2):  # each time, `stack` makes the axis that was transformed the second one
        d0, d1, d2, d3 = tiles
        g0, g1, g2 = kernel
        tiles = np.stack([d0 - d2, d1 + d2, d2 - d1, d1 - d3], axis=1)
        kernel = np.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2], axis=1)
    return tiles, kernel
    ### END SOLUTION


ex.transforms.check(transforms)  # also ex.transforms.hint() and ex.transforms.solution()

# %% [markdown]
# The rest is bookkeeping. Tiles overlap by two pixels. The sum over the channels turns the 16
# products into 16 matrix products. `store` rounds the factors, which we need for bfloat16.


# %%
def by_winograd(images, kernel, transforms, store=lambda factors: factors):
    """A convolution with a 3 × 3 kernel by Winograd's algorithm F(2 × 2, 3 × 3)."""
    n, rows, columns, outputs = output_shape(images, kernel)
    if kernel.shape[:2] != (3, 3):
        raise Invalid(f"This algorithm needs a kernel of (3, 3, …), not {kernel.shape}.")
    down, across = (rows + 1) // 2, (columns + 1) // 2  # tiles
    padded = np.pad(images, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))
    regions = [padded[:, i : i + 2 * down : 2, j : j + 2 * across : 2] for i, j in np.ndindex(4, 4)]
    tiles = np.stack(regions).reshape(4, 4, n * down * across, -1)
    left, right = map(store, transforms(tiles, kernel))
    products = left @ right  # (4, 4, tiles, outputs)
    for _ in range(2):
        m0, m1, m2, m3 = products
        products = np.stack([m0 + m1 + m2, m1 - m2 - m3], axis=1)
    parts = products.reshape(2, 2, n, down, across, outputs).transpose(2, 3, 0, 4, 1, 5)
    return parts.reshape(n, 2 * down, 2 * across, outputs)[:, :rows, :columns]


# %% [markdown]
# The results differ by rounding, because different numbers are added and multiplied. How much is
# lost? The exact result is computed in float64. For bfloat16, which keeps two to three digits, the
# factors of all products are rounded and the sums stay in float32, as matrix units compute.

# %%
factors_of = ex.transforms.or_reference(transforms)


def in_bfloat16(array):
    """The array, rounded to bfloat16."""
    return array.astype(tf.bfloat16.as_numpy_dtype).astype("float32")


images, kernel = random(4, 18, 18, 64), random(3, 3, 64, 32)
exact = direct(images.astype("float64"), kernel.astype("float64"))
winograd = partial(by_winograd, transforms=factors_of)
accuracy = pd.DataFrame(
    {
        "float32": {
            "direct": error(direct(images, kernel), exact),
            "Winograd": error(winograd(images, kernel), exact),
        },
        "bfloat16": {
            "direct": error(direct(in_bfloat16(images), in_bfloat16(kernel)), exact),
            "Winograd": error(winograd(images, kernel, store=in_bfloat16), exact),
        },
    }
)
print("float32 within the tolerance:", bool((accuracy["float32"] < TOLERANCE).all()))
accuracy.map("{:.1e}".format)

# %% [markdown]
# Now count the multiplications of layers with more and more channels, and time them. The last two
# columns would be equal if only multiplications counted.

# %%
rows = {}
for channels in WINOGRAD_CHANNELS:
    images, kernel = layer([4, 18, channels, channels, 3])
    seconds = in_turns(
        {
            "matrix": partial(by_matrix, images, kernel, windows_of),
            "Winograd": partial(winograd, images, kernel),
        }
    )
    n, height, width, outputs = output_shape(images, kernel)
    direct_products = n * height * width * kernel.size
    winograd_products = n * (height // 2) * (width // 2) * 16 * channels * outputs
    rows[f"{channels} channels"] = {
        "matrix (ms)": 1e3 * seconds["matrix"],
        "Winograd (ms)": 1e3 * seconds["Winograd"],
        "times fewer multiplications": direct_products / winograd_products,
        "times as fast": seconds["matrix"] / seconds["Winograd"],
    }
pd.DataFrame(rows).T.round(2)

# %%
ex.fewer_multiplications.ask()

# %% tags=["solution"]
ex.fewer_multiplications.answer("b")

# %% [markdown]
# ## Pick by measuring
# No algorithm is the fastest for every shape. cuDNN offers a function that measures all algorithms
# for a shape. TensorFlow, too, measures them on a GPU when it meets a new shape, and remembers the
# fastest ("autotuning").
#
# ### Exercise 4: measure once, remember
# `calls` is a dict from names to functions, `measure(call)` returns the seconds of one call, and
# `memory` is a dict that you may change. Measure each call `repeats` times, and compare the
# shortest times.


# %% tags=["exercise", "nbval-check-output"]
def pick(memory, key, calls, measure, repeats):
    """The name of the fastest of `calls`; they are measured once for each `key`."""
    ### BEGIN SOLUTION
    if key not in memory:
        shortest = {
            name: min(measure(call) for _ in range(repeats)) for name, call in calls.items()
        }
        memory[key] = min(shortest, key=shortest.get)
    return memory[key]
    ### END SOLUTION


ex.pick.check(pick)  # also ex.pick.hint() and ex.pick.solution()

# %% [markdown]
# Give it all routines of all layers. Winograd takes part where a kernel is 3 × 3: forward, and in
# the data gradient, which is a convolution with such a kernel, too.


# %%
def routines(name):
    """The calls of each routine of a layer: forward, data gradient and filter gradient."""
    (images, kernel), gradient = layers[name], output_gradients[name]
    every = algorithms | ({"winograd": winograd} if kernel.shape[:2] == (3, 3) else {})
    arguments = {
        "forward": (images, kernel),
        "data gradient": (kernel, gradient),
        "filter gradient": (images, gradient),
    }
    of_kind = {
        "forward": every,
        "data gradient": {w: partial(data_gradient_by, call) for w, call in every.items()},
        "filter gradient": {w: partial(filter_gradient, call) for w, call in algorithms.items()},
    }
    return {
        kind: {way: partial(call, *arguments[kind]) for way, call in calls.items()}
        for kind, calls in of_kind.items()
    }


picker = ex.pick.or_reference(pick)
memory = {}
choices = {
    name: {
        kind: picker(memory, (name, kind), calls, seconds_of, 3) for kind, calls in kinds.items()
    }
    for name, kinds in ((name, routines(name)) for name in layers)
}
pd.DataFrame(choices).T

# %% [markdown]
# Is picking better than always using the same algorithm? The picker chose by its own measurements.
# To compare fairly, we measure all routines again. "Perfect" is the fastest of each row in this
# second measurement, which no picker can know beforehand. The lower bars use one algorithm wherever
# it applies, and the matrix product elsewhere.

# %%
again = {(name, kind): in_turns(calls) for name in layers for kind, calls in routines(name).items()}
totals = {
    "perfect": sum(min(seconds.values()) for seconds in again.values()),
    "picked": sum(seconds[memory[key]] for key, seconds in again.items()),
}
for way in ("direct", "matrix", "fft", "winograd"):
    totals[f"always {way}"] = sum(seconds.get(way, seconds["matrix"]) for seconds in again.values())
figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
milliseconds = [1e3 * value for value in totals.values()]
bars = axes.barh(list(totals), milliseconds, color=[NEUTRAL, ORANGE, BLUE, BLUE, BLUE, BLUE])
axes.bar_label(bars, [f" {value:,.4g} ms" for value in milliseconds])
axes.set(xlabel="total time of all routines (ms)", ylabel="choice of the algorithm")
axes.set_xlim(0, 1.2 * max(milliseconds))
axes.set_title(f"{len(again)} routines: pick by measuring, or always the same")
axes.invert_yaxis()
axes.spines[["top", "right"]].set_visible(False)
text = ", ".join(
    f"{name} {value:,.4g} ms" for name, value in zip(totals, milliseconds, strict=True)
)
show(figure, f"A bar for each choice of the algorithm: {text}.")
best_single = min(value for name, value in totals.items() if name.startswith("always"))
print(
    f"Picking takes {totals['picked'] / best_single:.2f} of the time of the best single algorithm."
)

# %% [markdown]
# ## The other layers
# Each function below returns the result of a layer, and a second function for the backward pass,
# which turns the gradient of the results into that of the inputs. It remembers the arrays that it
# needs. cuDNN is *stateless*: the framework keeps these arrays and passes them again.
#
# ReLU and max pooling choose elements, so the gradient goes where the chosen ones were. Softmax and
# batch normalization are harder, since each result depends on many inputs. Both gradients subtract
# a mean, in the softmax one weighted by p: adding a constant to all inputs changes nothing, so the
# gradient has no part in that direction.


# %%
def relu(x):
    """ReLU: the result, and the function for its gradient."""
    return np.maximum(x, 0), lambda gradient: gradient * (x > 0)


def max_pool(x):
    """The largest of each 2 × 2 pixels; rows and columns (n, rows, columns, channels) are even."""
    n, rows, columns, channels = x.shape
    blocks = x.reshape(n, rows // 2, 2, columns // 2, 2, channels)
    result = blocks.max(axis=(2, 4), keepdims=True)

    def backward(gradient):
        return ((blocks == result) * gradient.reshape(result.shape)).reshape(x.shape)

    return result[:, :, 0, :, 0], backward


# %%
def softmax(x):
    """Softmax over the last axis; the largest input is subtracted, so that nothing overflows."""
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    p = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return p, lambda gradient: p * (gradient - (p * gradient).sum(axis=-1, keepdims=True))


def batch_norm(x, epsilon=1e-3):
    """Batch normalization of each channel in training, without scale and shift."""
    axes = tuple(range(x.ndim - 1))
    deviation = np.sqrt(x.var(axis=axes) + epsilon)
    normalized = (x - x.mean(axis=axes)) / deviation

    def backward(gradient):
        along = (gradient * normalized).mean(axis=axes) * normalized
        return (gradient - gradient.mean(axis=axes) - along) / deviation

    return normalized, backward


# %% [markdown]
# A *gradient check* needs no second library. Move one input by a small step in both directions and
# compare the difference of the results with the gradient, in float64. This also finds a faulty
# gradient: what does the last row show, in which batch normalization treats its mean and deviation
# as constants?


# %%
def gradient_error(layer, x, step=1e-5):
    """The largest relative difference of the gradient from differences of results."""
    result, backward = layer(x)
    weights = np.random.default_rng(2).normal(size=result.shape)  # of the results in a sum
    numeric = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        sums = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            sums.append((weights * layer(moved)[0]).sum())
        numeric[place] = (sums[0] - sums[1]) / (2 * step)
    return error(backward(weights), numeric)


def faulty_norm(x):
    """Batch normalization with a wrong gradient."""
    result, _ = batch_norm(x)
    return result, lambda gradient: gradient / x.std(axis=(0, 1, 2))


x = np.random.default_rng(1).normal(size=(3, 4, 4, 2))
for function in (relu, max_pool, softmax, batch_norm, faulty_norm):
    print(
        f"{function.__name__:12} relative error of the gradient {gradient_error(function, x):.0e}"
    )

# %% [markdown]
# ## Recurrent cells, fused
# An LSTM cell (lab 03) computes four parts: three gates, and new values. Written down one by one, a
# step takes eight matrix products: input and old state, for each part. One large product does the
# same arithmetic in a single call, so libraries store the weights of the parts side by side. Keras
# has the order input gate, forget gate, new values, output gate.
#
# ### Exercise 5: one matrix product
# Put `x` and `h` side by side, and their weights below each other. Then a single product gives all
# four parts: $i$, $f$, $g$ and $o$. With the logistic function $\sigma$:
#
# $$c' = \sigma(f)\, c + \sigma(i) \tanh(g) \qquad h' = \sigma(o) \tanh(c')$$


# %% tags=["exercise", "nbval-check-output"]
def lstm_step(x, h, c, kernel, recurrent_kernel, bias):
    """The new h and c of an LSTM with n units, with a single matrix product.

    x (batch, inputs), h and c (batch, n), kernel (inputs, 4n), recurrent_kernel (n, 4n), bias (4n,)
    """
    ### BEGIN SOLUTION
    both = np.concatenate([x, h], axis=1)
    parts = both @ np.concatenate([kernel, recurrent_kernel]) + bias
    i, f, g, o = np.split(parts, 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * np.tanh(g)
    return o * np.tanh(c), c
    ### END SOLUTION


ex.lstm_step.check(lstm_step)  # also ex.lstm_step.hint() and ex.lstm_step.solution()

# %% [markdown]
# Compare it with Keras' cell, and time its product against the eight small ones.
# (The slide's *persistent RNNs* go further: they keep the recurrent weights on the chip from step
# to step, instead of reading them again.)

# %%
fused = ex.lstm_step.or_reference(lstm_step)
cell = keras.layers.LSTMCell(64)
x, h, c = random(16, 32), random(16, 64), random(16, 64)
with tf.device("CPU"):
    expected, _ = cell(x, [h, c])
weights = cell.get_weights()
print(f"Error against Keras: {error(fused(x, h, c, *weights)[0], np.array(expected)):.0e}")

side_by_side, stacked = np.concatenate([x, h], axis=1), np.concatenate(weights[:2])
parts = [
    (a, part) for a, w in zip((x, h), weights, strict=False) for part in np.split(w, 4, axis=1)
]
parts = [(a, np.ascontiguousarray(part)) for a, part in parts]
products = in_turns(
    {
        "eight products": lambda: [a @ part for a, part in parts],
        "one product": lambda: side_by_side @ stacked,
    },
    rounds=201,
)
for name, seconds in products.items():
    print(f"{name}: {1e6 * seconds:.1f} µs")

# %% [markdown]
# If you exchange weights between libraries, their conventions matter. cuDNN stores an LSTM's gates
# in the same order as Keras, but has two biases, for input and state; Keras has one, so it passes
# zeros for the other. For a GRU, the order differs: Keras has update, reset, new values; cuDNN has
# reset, update, new values. Both have two biases there, because the reset gate multiplies the
# state's part of the new values *after* the product, bias included (`reset_after=True`).
#
# Convert a Keras GRU to cuDNN's order, and compute a step by cuDNN's formulas. Does it agree?


# %%
def cudnn_gru_step(x, h, kernel, recurrent_kernel, input_bias, state_bias):
    """A step of a GRU by cuDNN's formulas; weights in its order: reset, update, new values."""
    from_input = np.split(x @ kernel + input_bias, 3, axis=1)
    from_state = np.split(h @ recurrent_kernel + state_bias, 3, axis=1)
    reset, update = (
        1 / (1 + np.exp(-a - b)) for a, b in zip(from_input[:2], from_state[:2], strict=True)
    )
    new = np.tanh(from_input[2] + reset * from_state[2])
    return (1 - update) * new + update * h


def in_cudnn_order(array):
    """Exchange the first two of three parts of the last axis."""
    update, reset, new = np.split(array, 3, axis=-1)
    return np.concatenate([reset, update, new], axis=-1)


gru = keras.layers.GRUCell(64, bias_initializer="random_normal")
with tf.device("CPU"):
    expected, _ = gru(x, [h])
kernel, recurrent_kernel, biases = gru.get_weights()
for order, convert in (("Keras' order", np.asarray), ("cuDNN's order", in_cudnn_order)):
    converted = map(convert, (kernel, recurrent_kernel, *biases))
    result = cudnn_gru_step(x, h, *converted)
    print(f"Weights in {order}: error {error(result, np.array(expected)):.0e}")

# %% [markdown]
# ## Two layers on two threads
# The last line of the slide: *context-based API allows for easy multithreading.* cuDNN's functions
# take a context (a "handle") as an argument. Each thread has its own, with a queue of work on the
# GPU (a "stream"). Without shared state, two layers that do not depend on each other can run at the
# same time. Our functions have no state either.
#
# We compute two layers one after the other and on two Python threads, once with one core for each
# matrix product, and once with all. Where do two threads help? They need a second core that no
# other program uses.


# %%
cores = devices.inventory(ask_tensorflow=False).cpu.cores
busy = psutil.cpu_percent(interval=0.5) / 100  # by other programs: this one waits
rows = []
with ThreadPoolExecutor(2) as pool:
    for channels in THREAD_SIZES:
        pair = [(random(4, 34, 34, channels), random(3, 3, channels, channels)) for _ in range(2)]

        def one_by_one(pair=pair):
            return [by_matrix(*arrays, windows_of) for arrays in pair]

        def at_once(pair=pair):
            return list(pool.map(lambda arrays: by_matrix(*arrays, windows_of), pair))

        for threads in (1, max(1, int(cores))):
            with threadpool_limits(threads, user_api="blas"):
                seconds = in_turns({"one by one": one_by_one, "two threads": at_once})
            rows.append((channels, threads, *(1e3 * value for value in seconds.values())))
table = pd.DataFrame(
    rows, columns=["channels", "cores per product", "one by one (ms)", "two threads (ms)"]
)
table["times as fast"] = table["one by one (ms)"] / table["two threads (ms)"]
print(f"This machine has {cores:g} cores. Other programs kept them {busy:.0%} busy just before.")
if busy > 0.2:
    print(
        "So these times say little about an idle machine: close other programs, and run it again."
    )
for row in table.itertuples(index=False):
    verdict = "help" if row[4] > 1.1 else "hurt" if row[4] < 0.9 else "make little difference"
    print(f"{row[0]} channels, cores per product: {row[1]}. Two threads {verdict}.")
table.round(2)

# %%
ex.two_threads.ask()

# %% tags=["solution"]
ex.two_threads.answer("a")

# %% [markdown]
# ## Something to show a friend
# A map of this machine: for each kernel size and number of channels, the color tells which of the
# algorithms is the fastest, and the number compares it with TensorFlow on the same core, including
# the copy of NumPy's arrays. Above 1, the NumPy code is faster. In which corners of the map is it?

# %%
chart = {}
for width, channels in itertools.product(MAP_KERNELS, MAP_CHANNELS):
    arrays = layer((2, MAP_SIZE, channels, channels, width))
    calls = dict(algorithms) | ({"winograd": winograd} if width == 3 else {})
    calls["TensorFlow"] = tensorflow
    chart[width, channels] = in_turns(
        {name: partial(call, *arrays) for name, call in calls.items()}
    )

COLORS = {"direct": BLUE, "matrix": ORANGE, "fft": GREEN, "winograd": PINK}
figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
description = []
for (width, channels), seconds in chart.items():
    fastest = min(COLORS, key=lambda way: seconds.get(way, np.inf))
    factor = seconds["TensorFlow"] / seconds[fastest]
    x, y = MAP_CHANNELS.index(channels), MAP_KERNELS.index(width)
    axes.bar(x, 0.94, 0.94, bottom=y - 0.47, color=COLORS[fastest])
    text = f"{fastest}\n× {factor:.2g}"
    axes.text(x, y, text, ha="center", va="center", color="white", fontweight="bold")
    description.append(f"{width} × {width}, {channels} channels: {fastest} {factor:.2g}")
axes.set_xticks(range(len(MAP_CHANNELS)), MAP_CHANNELS)
axes.set_yticks(range(len(MAP_KERNELS)), [f"{width} × {width}" for width in MAP_KERNELS])
axes.set(xlabel="channels in and out", ylabel="kernel (pixels)")
axes.set_title("Fastest algorithm, and how many times as fast as TensorFlow")
axes.spines[:].set_visible(False)
show(figure, f"A colored map: {'; '.join(description)}.")
faster = sum(min(seconds, key=seconds.get) != "TensorFlow" for seconds in chart.values())
print(f"In {faster} of {len(chart)} fields, one of your algorithms is faster than TensorFlow.")

# %% [markdown]
# With few channels, there is little arithmetic, and the fixed costs of a call weigh more. The time
# of the FFT hardly depends on the kernel's size, so large kernels favor it. Many channels favor
# "direct" and "matrix", whose matrix products are larger then. The FFT transforms one kernel for
# each pair of channels, padded to the size of an image, and only two images share this.
#
# In 2018, Zlateski and others compared optimized versions of both fast algorithms on modern CPUs.
# For the layers of VGG and AlexNet, their FFT-based convolutions were generally faster than
# Winograd's. Do we find that, too?

# %%
for channels in MAP_CHANNELS:
    widths = []
    for width in MAP_KERNELS:
        ours = {way: chart[width, channels][way] for way in algorithms}
        if min(ours, key=ours.get) == "fft":
            widths.append(f"{width} × {width}")
    kernels = ", ".join(widths) or "no kernel"
    print(f"{channels} channels: the FFT is faster than direct and matrix with {kernels}.")
    if "winograd" in chart.get((3, channels), {}):
        share = chart[3, channels]["fft"] / chart[3, channels]["winograd"]
        print(f"  With 3 × 3, it takes {share:.1f} times as long as Winograd.")

# %% [markdown]
# If Winograd is faster here, this does not contradict them. They wrote both algorithms for the
# vector units and caches of these CPUs. Ours write whole arrays in each step. With 64 channels, the
# spectra of the kernels take 39 MB, more than the cache of most cores. **Such a comparison holds
# for these implementations on this machine,** so measure.
#
# ## The same layers on a GPU
# On an NVIDIA GPU, TensorFlow calls the real cuDNN, except that a 1 × 1 kernel may become a plain
# matrix product (cuBLAS). How many times as fast is it, with the arrays already on the GPU?

# %%
if not tf.config.list_physical_devices("GPU"):
    print("There is no GPU here that TensorFlow can use.")
else:
    on_gpu = tf.function(lambda x, k: tf.nn.conv2d(x, k, 1, "VALID"), reduce_retracing=True)
    for name, (images, kernel) in layers.items():
        with tf.device("GPU"):
            x, k = tf.constant(images), tf.constant(kernel)
        seconds = in_turns({"GPU": lambda x=x, k=k: on_gpu(x, k)[0, 0, 0].numpy()})["GPU"]
        best = min(again[name, "forward"].values())
        print(f"{name}: {1e3 * seconds:.2f} ms, {best / seconds:.0f} times as fast as NumPy here")

# %% [markdown]
# ## The challenge
# Winograd's method also works with larger tiles. F(4 × 4, 3 × 3) takes tiles of 6 × 6 pixels, and
# needs 4 times fewer multiplications than the direct method. Its transforms are built from five
# *points*, different numbers at which polynomials are evaluated. Lavin and Gray (2015) used 0, 1,
# -1, 2 and -2. In exact arithmetic, all points give the same results, but not in float32.
#
# `ex.winograd_error(points)` is the error of float32 with points of your choice. The bar: at most
# half of the error with Lavin and Gray's points, on data that you do not see.

# %%
for name, points in (
    ("F(2 × 2, 3 × 3), as above", [0, 1, -1]),
    ("F(4 × 4, 3 × 3), Lavin and Gray", [0, 1, -1, 2, -2]),
    ("F(6 × 6, 3 × 3)", [0, 1, -1, 2, -2, 0.5, -0.5]),
):
    in_float32, in_half = (ex.winograd_error(points, dtype) for dtype in ("float32", "bfloat16"))
    print(f"{name}: relative error {in_float32:.1e} in float32, {in_half:.1e} in bfloat16")


# %% tags=["exercise"]
def winograd_points(error_of):
    """Five points for F(4 × 4, 3 × 3); `error_of(points)` returns the error of points."""
    ### BEGIN SOLUTION
    sizes = [1 / 2, 2 / 3, 3 / 4, 1, 4 / 3, 3 / 2, 2]
    choices = [[0, a, -a, b, -b] for a, b in itertools.combinations(sizes, 2)]
    return min(choices, key=error_of)
    ### END SOLUTION


ex.winograd_points.check(winograd_points)  # also ex.winograd_points.hint() and .solution()

# %% [markdown]
# ## What you learned
# A layer is a few lines of mathematics that can be computed in many ways. The fastest depends on
# the shape and the machine, so libraries measure and remember. Both gradients of a
# convolution are convolutions, many changes of the layout need no copy, and one large matrix
# product is often faster than many small ones. Fewer multiplications save less time than their
# number says, and can cost accuracy.
#
# ## What to try next
# - Add layers of your own networks to `SHAPES`. How much does the picker save there?
# - Write the picker's memory to a file. When would its choices be wrong tomorrow?
# - Draw the map with 32 images, or let `by_fft` transform tiles of 16 × 16 pixels (*overlap-save*).
#   Where does the FFT win then?
# - Put your five points into `by_winograd`, with tiles of 6 × 6. Is it faster?

# %% [markdown]
# ## References
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slide on cuDNN.
# - S. Chetlur et al., *cuDNN: efficient primitives for deep learning*, 2014,
#   [arXiv:1410.0759](https://arxiv.org/abs/1410.0759): convolution as an implicit matrix product.
# - A. Lavin and S. Gray, *Fast algorithms for convolutional neural networks*, 2015,
#   [arXiv:1509.09308](https://arxiv.org/abs/1509.09308): Winograd's algorithms; A. Lavin,
#   [wincnn](https://github.com/andravin/wincnn): their transforms from points.
# - B. Barabasz et al., *Error analysis and improving the accuracy of Winograd convolution for deep
#   neural networks*, 2018, [arXiv:1803.10986](https://arxiv.org/abs/1803.10986).
# - A. Zlateski et al., *FFT convolutions are faster than Winograd on modern CPUs, here's why*,
#   2018, [arXiv:1809.07851](https://arxiv.org/abs/1809.07851).
# - NVIDIA, *cuDNN API*: tensor descriptors with strides (`cudnnSetTensor4dDescriptorEx`),
#   `cudnnTransformTensor`, and the picker (`cudnnFindConvolutionForwardAlgorithm`).
# - Keras 3, `keras/src/backend/tensorflow/rnn.py`: the order of gates and biases that it passes to
#   cuDNN.
