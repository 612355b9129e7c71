"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const collator = new Intl.Collator(undefined, { numeric: true });
const number = (value) => String(Number(value.toPrecision(4)));
const label = (value) =>
  value === null ? "–" : typeof value === "number" ? number(value) : typeof value === "string" ? value : JSON.stringify(value);
const short = (text) => (text.length > 18 ? text.slice(0, 17) + "…" : text);

// What the reader has chosen survives a reload of the page.
const KEY = "dltlab " + location.pathname;
let chosen = {};
try { chosen = JSON.parse(sessionStorage.getItem(KEY)) ?? {}; } catch { /* storage is off */ }
function remember(changes) {
  Object.assign(chosen, changes);
  try { sessionStorage.setItem(KEY, JSON.stringify(chosen)); } catch { /* storage is off */ }
}

// --- the table ---
const rows = [...document.querySelectorAll("tbody tr")];
const original = new Map(rows.map((row, index) => [row, index]));
const headings = [...document.querySelectorAll("thead th")];

function sortKey(row, column) {
  const cell = row.cells[column];
  return cell.dataset.number !== undefined ? Number(cell.dataset.number) : cell.textContent.trim();
}

function compareCells(a, b, column) {
  const [x, y] = [sortKey(a, column), sortKey(b, column)];
  const [isX, isY] = [typeof x === "number", typeof y === "number"];
  if (isX !== isY) return isX ? -1 : 1;
  if (!isX) return collator.compare(x, y);
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return x - y;
}

function isMissing(row, column) {
  const key = sortKey(row, column);
  return key === "–" || Number.isNaN(key);
}

function sortBy(column, direction) {
  const sign = direction === "descending" ? -1 : 1;
  rows.sort((a, b) =>
    direction === "none" ? original.get(a) - original.get(b)
      : isMissing(a, column) - isMissing(b, column)  // at the end in both directions
        || sign * compareCells(a, b, column) || original.get(a) - original.get(b));
  document.querySelector("tbody").append(...rows);
  headings.forEach((heading, index) => {
    const own = index === column ? direction : "none";
    heading.setAttribute("aria-sort", own);
    heading.querySelector("span").textContent = { ascending: " ▲", descending: " ▼", none: "" }[own];
  });
  remember({ column, direction });
}

headings.slice(0, -1).forEach((heading, index) => {  // all but the figures
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = heading.textContent;
  const arrow = document.createElement("span");
  arrow.ariaHidden = "true";
  button.append(arrow);
  heading.replaceChildren(button);
  heading.setAttribute("aria-sort", "none");
  button.addEventListener("click", () => {
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    sortBy(index, next[heading.getAttribute("aria-sort")]);
  });
});
headings.pop();

function filterRows() {
  const text = element("find").value.toLowerCase();
  const hidden = [...element("statuses").querySelectorAll("input:not(:checked)")].map((box) => box.value);
  let shown = 0;
  for (const row of rows) {
    row.hidden = hidden.includes(row.dataset.status) || !row.textContent.toLowerCase().includes(text);
    shown += !row.hidden;
  }
  element("message").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} runs are shown`;
  remember({ text: element("find").value, hidden });
}

const statusCounts = new Map();
for (const row of rows) statusCounts.set(row.dataset.status, (statusCounts.get(row.dataset.status) ?? 0) + 1);
for (const [status, count] of statusCounts) {
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", value: status, checked: !(chosen.hidden ?? []).includes(status) });
  const wrapper = document.createElement("label");
  wrapper.append(box, ` ${status} (${count})`);
  box.addEventListener("change", filterRows);
  element("statuses").append(wrapper);
}
element("find").value = chosen.text ?? "";
element("find").addEventListener("input", filterRows);
filterRows();
if (headings[chosen.column]) sortBy(chosen.column, chosen.direction);

function choose(run) {
  const row = element(run.id);
  document.querySelector("tr.chosen")?.classList.remove("chosen");
  row.hidden = false;
  row.classList.add("chosen");
  row.scrollIntoView({ block: "center" });
}

// --- the plots ---
function draw(parent, tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function niceTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

// Returns where a value lies between two positions in pixels, and the ticks of the axis.
function axisScale(values, start, end, isParameter = false) {
  const known = values.filter((value) => value !== null);
  if (!known.length || known.some((value) => typeof value !== "number")) {
    const names = [...new Set(values.map(label))].sort(collator.compare);
    const at = (value) => start + (end - start) * ((names.indexOf(label(value)) + 0.5) / names.length);
    const every = Math.ceil(names.length / 12);
    return { at, ticks: names.filter((_, i) => i % every === 0).map((name) => [start + (end - start) * ((names.indexOf(name) + 0.5) / names.length), short(name)]) };
  }
  let low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
  if (low === high) { const margin = Math.abs(low) / 10 || 1; low -= margin; high += margin; }
  const isLog = low > 0 && high / low >= (isParameter ? 8 : 50);  // parameters are often powers of two
  const map = isLog ? Math.log10 : (value) => value;
  const [from, to] = [map(low), map(high)];
  const inner = (end - start) * 0.04;
  const at = (value) => (value === null ? null : start + inner + ((map(value) - from) / (to - from)) * (end - start - 2 * inner));
  const distinct = [...new Set(known)];
  const ticks = isParameter && distinct.length <= 6 ? distinct.sort((a, b) => a - b)
    : isLog ? niceTicks(from, to, 3).filter(Number.isInteger).map((exponent) => 10 ** exponent)
    : niceTicks(low, high, 4);
  return { at, ticks: (ticks.length ? ticks : [low, high]).map((value) => [at(value), number(value)]) };
}

function figure(title, description, height, isWide) {
  const node = document.createElement("figure");
  if (isWide) node.className = "wide";
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  node.append(caption);
  element("charts").append(node);
  const width = Math.max(node.clientWidth, 240);
  const svg = draw(node, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description });
  return { svg, width, height };
}

const MARGIN = { left: 52, right: 12, top: 10, bottom: 40 };

function axes(plot, x, y, xName, yName) {
  const bottom = plot.height - MARGIN.bottom;
  for (const [position, text] of y.ticks) {
    draw(plot.svg, "line", { class: "axis", x1: MARGIN.left, x2: plot.width - MARGIN.right, y1: position, y2: position });
    draw(plot.svg, "text", { x: MARGIN.left - 6, y: position + 4, "text-anchor": "end" }, text);
  }
  let free = 0;
  for (const [position, text] of x.ticks) {
    const half = text.length * 3.8;
    if (position - half < free) continue;  // no text over another
    free = position + half + 4;
    draw(plot.svg, "text", { x: Math.min(position, plot.width - half), y: bottom + 16, "text-anchor": "middle" }, text);
  }
  draw(plot.svg, "line", { class: "axis", x1: MARGIN.left, x2: plot.width - MARGIN.right, y1: bottom, y2: bottom });
  draw(plot.svg, "text", { x: (MARGIN.left + plot.width) / 2, y: plot.height - 6, "text-anchor": "middle" }, xName);
  draw(plot.svg, "text", { x: 12, y: (MARGIN.top + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(MARGIN.top + bottom) / 2})` }, short(yName));
}

function mark(plot, tag, attributes, run, best, text) {
  const kind = run === best ? "best" : run.status === "done" ? "" : "other";
  const node = draw(plot.svg, tag, { ...attributes, class: `${attributes.class} ${kind}` });
  draw(node, "title", {}, `${run.id}\n${text}`);
  node.addEventListener("click", () => choose(run));
}

const bestLast = (runs, best) => [...runs].sort((a, b) => (a === best) - (b === best));
const xRange = (plot) => [MARGIN.left, plot.width - MARGIN.right];
const yRange = (plot) => [plot.height - MARGIN.bottom, MARGIN.top];

function drawBestSoFar(runs, best, metric, isBetter) {
  const ended = runs.filter((run) => run.ended !== null).sort((a, b) => a.ended - b.ended);
  if (ended.length < 3) return;
  const name = data.metrics[metric];
  const plot = figure(`Best ${name} so far`, `The best ${name} so far over ${ended.length} runs in the order in which they ended; at the end ${label(best.values[metric])}.`, 240, false);
  const x = { at: (i) => MARGIN.left + ((i - 0.5) / ended.length) * (plot.width - MARGIN.left - MARGIN.right) };
  const counts = niceTicks(1, ended.length, 4).filter((i) => Number.isInteger(i) && i > 1);
  x.ticks = [...new Set([1, ...counts, ended.length])].map((i) => [x.at(i), String(i)]);
  const y = axisScale(ended.map((run) => run.values[metric]), ...yRange(plot));
  axes(plot, x, y, "runs ended", name);
  let record = null, path = "";
  ended.forEach((run, index) => {
    if (run.status === "done" && (record === null || isBetter(run.values[metric], record))) record = run.values[metric];
    if (record === null) return;
    path += `${path ? "H" : "M"}${x.at(index + 1)}${path ? "V" : ","}${y.at(record)}`;
  });
  if (path) draw(plot.svg, "path", { class: "step", d: path });
  ended.forEach((run, index) =>
    mark(plot, "circle", { class: "point", r: 3, cx: x.at(index + 1), cy: y.at(run.values[metric]) }, run, best, `${name} ${label(run.values[metric])}`));
}

function drawByParameter(runs, best, metric, parameter) {
  const values = runs.map((run) => run.parameters[parameter]);
  if (new Set(values.map(label)).size < 2) return;
  const [name, metricName] = [data.parameters[parameter], data.metrics[metric]];
  const plot = figure(`${metricName} by ${name}`, `${metricName} of ${runs.length} runs by the parameter ${name}; the best has ${name} ${label(best.parameters[parameter])}.`, 240, false);
  const x = axisScale(values, ...xRange(plot), true), y = axisScale(runs.map((run) => run.values[metric]), ...yRange(plot));
  axes(plot, x, y, name, metricName);
  for (const run of bestLast(runs, best)) {
    const position = x.at(run.parameters[parameter]);
    if (position !== null)
      mark(plot, "circle", { class: "point", r: run === best ? 5 : 3, cx: position, cy: y.at(run.values[metric]) }, run, best, `${name} ${label(run.parameters[parameter])}\n${metricName} ${label(run.values[metric])}`);
  }
}

function drawParallel(runs, best, metric, isBetter) {
  const varying = data.parameters.map((_, i) => i).filter((i) => new Set(runs.map((run) => label(run.parameters[i]))).size > 1).slice(0, 8);
  if (varying.length < 2) return;
  const name = data.metrics[metric];
  const plot = figure(`Parameters and ${name}`, `Parallel coordinates of ${varying.map((i) => data.parameters[i]).join(", ")} and ${name} for ${runs.length} runs; the better a run, the stronger its line.`, 320, true);
  const dimensions = [...varying.map((i) => [data.parameters[i], (run) => run.parameters[i]]), [name, (run) => run.values[metric]]];
  const top = 30, bottom = plot.height - 14;
  const at = (index) => 40 + (index * (plot.width - 80 - 40)) / (dimensions.length - 1);
  const scales = dimensions.map(([, value], index) => axisScale(runs.map(value), bottom, top, index < varying.length));
  const ranked = [...runs].sort((a, b) => (isBetter(a.values[metric], b.values[metric]) ? 1 : -1));
  const [faintest, power] = ranked.length < 50 ? [0.2, 2] : [0.04, Math.min(2 + ranked.length / 80, 12)];
  ranked.forEach((run, rank) => {
    const points = dimensions.map(([, value], index) => [at(index), scales[index].at(value(run))]).filter(([, y]) => y !== null);
    const opacity = run === best ? 1 : faintest + 0.6 * ((rank + 1) / ranked.length) ** power;
    mark(plot, "polyline", { class: "curve", points: points.join(" "), "stroke-opacity": opacity }, run, best, dimensions.map(([title, value]) => `${title} ${label(value(run))}`).join("\n"));
  });
  dimensions.forEach(([title], index) => {
    draw(plot.svg, "line", { class: "axis", x1: at(index), x2: at(index), y1: top, y2: bottom });
    const anchor = index === 0 ? "start" : index === dimensions.length - 1 ? "end" : "middle";
    draw(plot.svg, "text", { x: at(index) + (index === 0 ? -36 : anchor === "end" ? 60 : 0), y: 14, "text-anchor": anchor, "font-weight": 600 }, short(title));
    let free = Infinity;
    for (const [position, text] of scales[index].ticks.sort((a, b) => b[0] - a[0])) {
      if (position > free) continue;  // no text over another
      free = position - 13;
      draw(plot.svg, "text", { x: at(index) + 5, y: position + 4, class: "tick" }, short(text));
    }
  });
}

function drawHistories(runs, best, metric) {
  const named = runs.filter((run) => run.histories[metric]?.[0].length > 1);
  if (!named.length) return;
  const name = data.metrics[metric];
  const plot = figure(`${name} by step`, `${name} by step of ${named.length} runs.`, 300, true);
  const steps = named.flatMap((run) => run.histories[metric][0]);
  const values = named.flatMap((run) => run.histories[metric][1]).filter((value) => value !== null);
  const low = steps.reduce((a, b) => Math.min(a, b)), high = steps.reduce((a, b) => Math.max(a, b));
  const span = plot.width - MARGIN.left - MARGIN.right;
  const x = { at: (step) => MARGIN.left + (span * (step - low)) / (high - low || 1) };
  x.ticks = niceTicks(low, high === low ? low + 1 : high, 6).filter(Number.isInteger).map((step) => [x.at(step), number(step)]);
  const y = axisScale(values, ...yRange(plot));
  axes(plot, x, y, "step", name);
  for (const run of bestLast(named, best)) {
    const [ownSteps, ownValues] = run.histories[metric];
    const points = ownSteps.map((step, i) => [x.at(step), y.at(ownValues[i])]).filter(([, position]) => position !== null);
    const opacity = run === best ? 1 : Math.max(0.12, Math.min(0.7, 15 / named.length));
    mark(plot, "polyline", { class: "curve", points: points.join(" "), "stroke-opacity": opacity }, run, best, `${name} ${label(run.values[metric])}`);
  }
}

function drawPlots() {
  const metric = Number(element("metric").value), notebook = element("notebook").value;
  const isLower = element("lower").checked;
  const isBetter = (a, b) => (isLower ? a < b : a > b);
  element("charts").replaceChildren();
  const named = data.runs.filter((run) => !notebook || run.name === notebook);
  const runs = named.filter((run) => typeof run.values[metric] === "number");
  const ended = runs.filter((run) => run.status === "done");
  const best = (ended.length ? ended : runs).reduce((a, b) => (a && !isBetter(b.values[metric], a.values[metric]) ? a : b), null);
  if (runs.length) {
    drawBestSoFar(runs, best, metric, isBetter);
    data.parameters.forEach((_, parameter) => drawByParameter(runs, best, metric, parameter));
    drawParallel(runs, best, metric, isBetter);
  }
  drawHistories(named, best, metric);
  if (!element("charts").children.length) element("charts").textContent = "Too few values for a plot.";
}

function option(select, value, text) {
  const node = document.createElement("option");
  Object.assign(node, { value, textContent: text });
  select.append(node);
}

if (data.metrics.length) {
  element("plots").hidden = false;
  data.metrics.forEach((name, index) => option(element("metric"), index, name));
  const notebooks = [...new Set(data.runs.map((run) => run.name))].sort(collator.compare);
  if (notebooks.length === 1) option(element("notebook"), "", notebooks[0]);
  else notebooks.forEach((name) => option(element("notebook"), name, name));
  element("notebook-label").hidden = notebooks.length === 1;
  if (data.metrics[chosen.metric]) element("metric").value = chosen.metric;
  if (notebooks.includes(chosen.notebook)) element("notebook").value = chosen.notebook;
  element("lower").checked = chosen.lower ?? data.lower[Number(element("metric").value)];
  element("metric").addEventListener("change", () => {
    element("lower").checked = data.lower[Number(element("metric").value)];
  });
  for (const id of ["metric", "notebook", "lower"])
    element(id).addEventListener("change", () => {
      remember({ metric: element("metric").value, notebook: element("notebook").value, lower: element("lower").checked });
      drawPlots();
    });
  drawPlots();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawPlots(); } });
}

// --- reload while runs are not finished ---
const reload = element("reload");
if (reload) {
  reload.checked = chosen.reload ?? true;
  reload.addEventListener("change", () => remember({ reload: reload.checked }));
  setInterval(() => {
    const isTyping = document.activeElement.matches("select, [type=search]");
    if (reload.checked && !document.hidden && !isTyping) location.reload();
  }, 10000);
}
