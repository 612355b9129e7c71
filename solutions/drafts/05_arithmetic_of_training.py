# A part of lab 05, "Arithmetic of training", from the time before that lab exists. The tools read
# only solutions/NN_topic.py, so this is no lab yet. Its check is beside it, for dltlab/checks.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from dltlab.checks import arithmetic_of_training as ex
from dltlab.display import PALETTE, show

BLUE, ORANGE, GREEN = PALETTE[:3]

# %% [markdown]
# ## Persistent networks
# A slide of 2017 lists what NVIDIA's library has for recurrent networks: "LSTM, GRU, and Persistent
# RNNs". What persists are the weights. They are the same at every step, but a loop of matrix
# products loads them from memory at every step again. A persistent kernel loads them once and keeps
# them in the registers of the chip.
#
# Is that worth the effort? This can be computed.

# %% [markdown]
# ### Exercise: what a step costs
# Take only the recurrent part of one step of an LSTM, $h U$ for a batch. How many operations is it,
# if a multiplication and an addition are two? And how many bytes of weights are loaded, if each
# weight takes `bytes_each`?


# %% tags=["exercise", "nbval-check-output"]
def lstm_step_cost(units, batch, bytes_each):
    """The operations of h·U in one step of an LSTM, and the bytes of the weights U."""
    ### BEGIN SOLUTION
    weights = units * 4 * units
    return 2 * batch * weights, bytes_each * weights
    ### END SOLUTION


ex.lstm_step_cost.check(lstm_step_cost)  # also ex.lstm_step_cost.hint() and .solution()

# %% [markdown]
# The quotient of the two is the number of operations for each byte. It does not depend on the size
# of the network, only on the batch. While a chip loads a byte, it can do a certain number of
# operations; if there are fewer to do, it waits. The slides give both for two GPUs: 10 trillion
# operations and 720 GB a second for the P100, 120 and 900 for the V100. From which batch on are
# they busy? We count 4 bytes for a weight on the P100 and 2 on the V100, whose 120 holds for half
# precision.

# %%
cost = ex.lstm_step_cost.or_reference(lstm_step_cost)  # yours once it passes
gpus = {"P100": (10e12, 720e9, 4, BLUE, "-"), "V100": (120e12, 900e9, 2, ORANGE, "--")}
batches = 2 ** np.arange(11)
figure, axis = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for name, (peak, bandwidth, size, color, style) in gpus.items():
    intensity = np.divide(*np.transpose([cost(1024, int(batch), size) for batch in batches]))
    reached = np.minimum(peak, intensity * bandwidth)
    axis.plot(batches, reached / 1e12, style, color=color, marker="o", markersize=4, label=name)
    enough = peak / bandwidth / intensity[0]
    print(f"{name}: busy from a batch of {enough:.0f}; at a batch of 4 at most", end=" ")
    print(f"{intensity[2] * bandwidth / 1e12:.2f} of {peak / 1e12:.0f} trillion operations/s")
axis.set(xscale="log", yscale="log", xlabel="batch size (sequences)")
axis.set(ylabel="operations (trillion/s)", xticks=batches[::2], xticklabels=batches[::2])
axis.set_title("Upper bound, if the weights are loaded at each step")
axis.legend()
axis.grid(alpha=0.3)
show(figure, "Largest rate of operations by batch size for a P100 and a V100; both level off.")

# %% [markdown]
# So with small batches the loop is limited by the loading, and keeping the weights on the chip
# would help. In 2016, Diamos et al. did it: 2.8 trillion operations a second with a batch of 4, on
# a Titan X. According to its data sheet, that card loads 336 GB a second. What would be the largest
# rate without persistence?
#
# And which networks fit? The slides give the caches: L2 of 4 and 6 MB, L1 of 1.3 and 10 MB. The
# registers, 256 KB in each of 56 and 80 processors, are 14 and 20 MB: the largest memory on the
# chip.

# %%
operations, loaded = cost(1024, 4, 4)
print(f"Titan X, batch of 4: at most {operations / loaded * 336e9 / 1e12:.2f} trillion/s\n")
places = {
    ("P100", "registers"): 56 * 256 * 1024,
    ("P100", "L2 cache"): 4e6,
    ("P100", "L1 caches"): 1.3e6,
    ("V100", "registers"): 80 * 256 * 1024,
    ("V100", "L2 cache"): 6e6,
    ("V100", "L1 caches"): 10e6,
}


def largest(matrices, bytes_each):
    """The largest number of units whose recurrent weights fit, for each place."""
    return {where: int(np.sqrt(size / bytes_each / matrices)) for where, size in places.items()}


fits = {"LSTM, float32": largest(4, 4), "LSTM, float16": largest(4, 2)}
fits |= {"plain, float32": largest(1, 4), "plain, float16": largest(1, 2)}
pd.DataFrame(fits).rename_axis(["GPU", "largest number of units in"])

# %% [markdown]
# The published rate is above that bound, so the weights cannot have come from memory at each step.
# The table shows the limit of the idea: with more units, the weights have to be loaded again. Some
# registers are needed for other things, so the largest network is smaller than that.
#
# Is it so on your machine? Measure the recurrent product for two sizes and growing batches. If the
# loading is what limits, a step takes nearly as long for 8 sequences as for one.

# %%
rates = {}
for units in (128, 1024):
    kernel = np.random.default_rng(1).normal(size=(units, 4 * units)).astype("float32")
    for batch in 2 ** np.arange(7):
        state = np.ones((batch, units), "float32")
        seconds = []
        for _ in range(20):
            clock = time.perf_counter()
            state @ kernel
            seconds.append(time.perf_counter() - clock)
        operations, loaded = cost(units, int(batch), 4)
        rates[units, batch] = operations / np.median(seconds[5:]) / 1e9

# %%
figure, axis = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
for units, color, marker in ((128, GREEN, "^"), (1024, BLUE, "o")):
    points = [(batch, rate) for (size, batch), rate in rates.items() if size == units]
    megabytes = cost(units, 1, 4)[1] / 1e6
    label = f"{units} units, {megabytes:.1f} MB of weights"
    axis.plot(*zip(*points, strict=True), marker=marker, color=color, label=label)
axis.set(xscale="log", yscale="log", xlabel="batch size (sequences)")
axis.set(ylabel="operations (billion/s)", title="The recurrent product of an LSTM on this CPU")
axis.set_xticks([1, 4, 16, 64], [1, 4, 16, 64])
axis.legend(fontsize=8)
axis.grid(alpha=0.3)
show(figure, "Measured rate of operations by batch size, for a small and a large LSTM.")

# %% [markdown]
# ## References
# - G. Diamos et al., *Persistent RNNs: stashing recurrent weights on-chip*, ICML 2016.
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, Teratec, June 2017: the slides.
