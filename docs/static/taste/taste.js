// The pad of the page "Try it": paint on 8 × 8 pixels, and the network of network.js reads them.
// It needs tf-core.min.js, tf-backend-cpu.min.js and network.js; it loads nothing else.

"use strict";

{
  const SIZE = 8;
  const root = document.getElementById("dltlab-taste");

  const decoded = (text) =>
    new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const layers = dltlabNetwork.layers.map(({ shape, kernel, bias }) => ({
    kernel: tf.tensor(decoded(kernel), shape),
    bias: tf.tensor(decoded(bias)),
  }));

  /** Return the probabilities of the ten digits for 64 zeros and ones. */
  const read = (pixels) =>
    tf.tidy(() => {
      let values = tf.tensor(pixels, [1, SIZE * SIZE]);
      layers.forEach(({ kernel, bias }, place) => {
        values = tf.add(tf.matMul(values, kernel), bias);
        if (place < layers.length - 1) values = tf.relu(values);
      });
      return tf.softmax(values).dataSync();
    });

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  };

  const pixels = Array.from({ length: SIZE * SIZE }, (_, place) =>
    element("button", {
      type: "button",
      "aria-pressed": "false",
      "aria-label": `row ${Math.floor(place / SIZE) + 1}, column ${(place % SIZE) + 1}`,
      tabindex: place ? "-1" : "0",
    }),
  );
  const isInk = (pixel) => pixel.getAttribute("aria-pressed") === "true";
  const setInk = (pixel, ink) => pixel.setAttribute("aria-pressed", String(ink));

  const sentence = element("p", { "aria-live": "polite" });
  const bars = Array.from({ length: 10 }, () => ({
    bar: element("span", { class: "dltlab-taste-bar" }),
    percent: element("span", { class: "dltlab-taste-percent" }),
  }));

  const update = () => {
    const values = pixels.map((pixel) => Number(isInk(pixel)));
    const hasInk = values.includes(1);
    const start = performance.now();
    const probabilities = hasInk ? read(values) : new Float32Array(10);
    const milliseconds = performance.now() - start;
    const best = probabilities.indexOf(Math.max(...probabilities));
    sentence.textContent = hasInk
      ? `The network reads this as ${best}. Your browser needed ${milliseconds.toFixed(1)} ms.`
      : "Paint a digit: drag over the pixels.";
    bars.forEach(({ bar, percent }, digit) => {
      bar.style.width = `${100 * probabilities[digit]}%`;
      bar.classList.toggle("is-best", hasInk && digit === best);
      percent.textContent = hasInk ? `${(100 * probabilities[digit]).toFixed(1)}%` : "";
    });
  };

  const pad = element("div", { role: "group", "aria-label": "Pad of 8 × 8 pixels" }, ...pixels);
  pad.className = "dltlab-taste-pad";
  let ink = null; // what the pointer paints while it is down
  const paint = (target) => {
    if (pixels.includes(target) && isInk(target) !== ink) {
      setInk(target, ink);
      update();
    }
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button || !pixels.includes(event.target)) return;
    event.target.releasePointerCapture(event.pointerId);
    ink = !isInk(event.target);
    paint(event.target);
  });
  pad.addEventListener("pointermove", (event) => {
    if (ink === null) return;
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const step of steps.length ? steps : [event])
      paint(document.elementFromPoint(step.clientX, step.clientY));
  });
  for (const end of ["pointerup", "pointercancel"])
    window.addEventListener(end, () => {
      ink = null;
    });
  pad.addEventListener("click", (event) => {
    if (event.detail || !pixels.includes(event.target)) return; // the pointer has painted already
    setInk(event.target, !isInk(event.target));
    update();
  });
  pad.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const place = pixels.indexOf(event.target);
    if (place < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const row = Math.floor(place / SIZE) + steps[event.key][0];
    const column = (place % SIZE) + steps[event.key][1];
    if (Math.min(row, column) < 0 || Math.max(row, column) >= SIZE) return;
    pixels[place].tabIndex = -1;
    const next = pixels[row * SIZE + column];
    next.tabIndex = 0;
    next.focus();
  });

  const show = (image) => {
    pixels.forEach((pixel, place) => setInk(pixel, image[place] === "1"));
    update();
  };
  let example = -1;
  const button = (text, action) => {
    const made = element("button", { type: "button", class: "dltlab-taste-action" }, text);
    made.addEventListener("click", action);
    return made;
  };
  const clear = button("Clear", () => show(""));
  const next = button("Example", () => {
    example = (example + 1) % dltlabNetwork.examples.length;
    show(dltlabNetwork.examples[example]);
  });

  const rows = bars.map(({ bar, percent }, digit) =>
    element(
      "li",
      {},
      element("span", { class: "dltlab-taste-digit" }, String(digit)),
      element("span", { class: "dltlab-taste-track" }, bar),
      percent,
    ),
  );
  root.replaceChildren(
    element("div", {}, pad, element("div", { class: "dltlab-taste-actions" }, clear, next)),
    element("div", {}, sentence, element("ol", { "aria-label": "Probabilities" }, ...rows)),
  );
  const accuracy = document.getElementById("dltlab-taste-accuracy");
  accuracy.textContent = `${(100 * dltlabNetwork.accuracy).toFixed(1)}% of ${dltlabNetwork.numTest}`;
  tf.ready().then(() => {
    read(new Float32Array(SIZE * SIZE)); // the first call is slower
    next.click();
  });
}
