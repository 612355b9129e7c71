'''Exercises that check themselves, and the learner's progress.

A module of `dltlab.checks` holds the exercises and questions of one lab, with their hints; the
lab's notebook imports it `as ex`. The task, the stub and the solution are in the lab's source; a
solution may use only the lab's imports, not its other functions and variables. A cell of the lab
checks an exercise with `ex.NAME.check(NAME)` and asks a question with `ex.NAME.ask()`.

**Declared.** Where an answer can be compared with the author's solution, state the cases, what is
returned, and the known mistakes:

    @exercise(
        "Two matrix products, `x @ kernel` and `h @ recurrent_kernel`.",   # hints, in order
        "Take `np.tanh` of the sum, last.",
        returns=Array("new state"),
        otherwise="Your new state is not tanh(x·W + h·U + b).",
    )
    def rnn_step():
        yield random_arrays((2, 3), (2, 4), (3, 4), (4, 4), (4,))
        yield random_arrays((5, 2), (5, 6), (2, 6), (6, 6), (6,))

    @rnn_step.mistake("The bias makes no difference to what you return.")
    def _(x, h, kernel, recurrent_kernel, bias):
        return np.tanh(x @ kernel + h @ recurrent_kernel)

    @rnn_step.mistakes                     # several that share intermediate values
    def _(x, h, kernel, recurrent_kernel, bias):
        total = x @ kernel + h @ recurrent_kernel + bias
        yield "You return the sum as it is: the tanh is missing.", total
        yield "You add the bias twice.", np.tanh(total + bias)

    @rnn_step.accepts                      # another correct answer
    def _(x, h, kernel, recurrent_kernel, bias):
        return np.tanh(np.hstack([x, h]) @ np.vstack([kernel, recurrent_kernel]) + bias)

    @rnn_step.rejects("has the shape (4,)")   # a wrong answer that the engine itself reports
    def _(x, h, kernel, recurrent_kernel, bias):
        return np.tanh(x @ kernel + h @ recurrent_kernel + bias)[0]

- *Cases.* Each is a tuple of arguments (one argument: `yield (x,)`). Give at least two, of
  different sizes, so that an answer with a size written into it fails; let no two dimensions of
  the first be equal, and none be 1 or 2, which hides factors. An answer gets copies.
- *Answers* may be anything that can be called: a function, a `functools.partial`, a bound method,
  an object with `__call__`, a class, a layer.
- *Returns.* `Array`, `Number`, `Integer`, `Text`, `Equal` (anything, by `==`). A tuple of them for
  a fixed number of values, in anything that can be unpacked; `[Array("gradient")]` for any number
  of values. Shape and kind of dtype are those of the author's solution on that case. float32 or
  float64, lists, tuples, tensors and numbers are all accepted; integers must be equal, floats close
  (`rtol`, `atol`); `dtype="int8"` or `dtype="integer"` where the dtype matters.
- *What the engine says itself:* an exception with its line, no `return`, a changed argument, a
  value that does not convert, a wrong number of values, a wrong shape or dtype, nan. The order is:
  exceptions, changed arguments and types; then mistakes; then shapes, dtypes and nan; then
  `otherwise`. So a mistake may have a wrong shape or return nan and have a sentence of its own.
- *Mistakes* are tried in their order. One applies where the answer agrees with it on every case on
  which it differs from the solution, and the first case with a wrong value is one of them: put the
  usual cases first, special ones last. `...` stands for a value that does not matter: for one of
  several, as in `return kernel * gamma, ...`, or for all on a case on which the mistake makes no
  difference. A sentence may contain `{call}` and `{value}`, or be a function of the learner's
  value: `lambda p: f"The first row adds up to {p[0].sum():.3f}."`. Never tell the expected value.
  `@rnn_step.mistake("…", hint="…")` adds a hint for this mistake, which comes before the others.
  `ex.reference()` is the author's function: a mistake can be written as
  `return windows.reference()(series, length, horizon + 1, stride)`.
- *Rejects* is for what the engine says itself. The engine's tests prove its messages: declare only
  an answer that may well be given, such as one with a size written into it.
- *Otherwise* is the sentence for all other wrong values. With several values it may be a dict from
  the name of each to a sentence, in the order in which they are looked at.
- *Observe.* Where what matters is not what an answer returns, but what that does, add `observe=`:
  a function of the answer and the arguments of a case that calls the answer and returns what is
  compared, such as the outputs of the network that the answer builds, with given weights. Each
  mistake stays a function like the learner's, declared with `mistake`.
- *Behavior.* Where several results are correct, no comparison can tell. `@rnn_step.behavior`
  declares a check that is code, as below; it gets an answer that agrees on every case.

**Code.** Checks of behavior (a training step, a clock, a network) take the learner's function,
call it, and `require` something of the result; `attempt` guards code that uses what the learner
returned; the specs convert values: `Number("loss").read(value)`, `Array("scores").read(value,
shape=(8, 10))`. `@in_float32()` under `@exercise` makes Keras layers in float32. The check returns
None, or a message for the learner who passed. Its wrong answers are declared with a part of the
message that they must get:

    @exercise("`keras.Input(input_shape)` comes first.")
    def build_cnn(answer):
        """Describe here what the check does."""
        import keras                        # heavy packages are imported where they are needed

        model = answer((8, 8, 1))
        require(isinstance(model, keras.Model), "You do not return a Keras model.")
        with attempt("calling your model on images of shape (8, 8, 1)"):
            scores = model(np.zeros((5, 8, 8, 1)))
        Array("scores").read(scores, shape=(5, 10))

    @build_cnn.rejects("do not return a Keras model")
    def _(input_shape):
        return [keras.Input(input_shape)]

A check that trains for minutes has parameters with defaults, and `smoke=` gives the values with
which verification takes seconds; the executed notebook proves the defaults:

    @exercise("Begin with the network above.", smoke={"num_images": 100, "bar": 0.5})
    def train_classifier(answer, num_images=4_000, bar=0.9): ...

**Questions.** The docstring asks, exactly one option is correct, each has its reason. The call
`ex.first_loss.ask()` in a cell of the lab shows the question:

    @question
    def first_loss():
        """What is the cross-entropy of ten equal probabilities?"""
        return [
            correct("2.3", "-ln(1/10) = ln 10 ≈ 2.3."),
            wrong("0.1", "That is the probability of each digit. What is -ln of it?"),
        ]

`dltlab.authoring.verify` proves a module: the stub is unattempted; the solution and all accepted
answers pass; each mistake gets its own sentence; each rejected answer gets its message; the
solution with one value altered does not pass.
'''

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
