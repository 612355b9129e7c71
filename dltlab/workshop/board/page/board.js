"use strict";
// The board: shows what the service sends over one connection. What learners have written is only
// ever text here, never HTML.
const SIGNS = { passed: "✓", "not yet": "→", error: "✗", unattempted: "·" };
const MINUTE = 60;
const RETRY_MILLISECONDS = 2000;
const byId = (id) => document.getElementById(id);
let data = null;
let lab = null; // the name of the lab that is shown
let isChosen = false; // by the instructor; else the lab follows the class
const shown = new Map(); // what each part of the page shows, as JSON

function element(name, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const node = Object.assign(document.createElement(name), rest);
  Object.assign(node.dataset, dataset);
  node.append(...children);
  return node;
}

// Replace the content of a part where it has changed; what was in focus stays in focus.
function show(id, content, build) {
  const state = JSON.stringify(content);
  if (shown.get(id) === state) return;
  shown.set(id, state);
  const part = byId(id);
  const key = part.contains(document.activeElement) && document.activeElement.dataset.key;
  part.replaceChildren(...[build(content)].flat());
  if (key) [...part.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key)?.focus();
}

function age(seconds) {
  const minutes = Math.floor(Math.max(data.now - seconds, 0) / MINUTE);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  return minutes < 1440 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}

const gigabytes = (bytes) => (bytes / 1e9).toFixed(1);
const percent = (share) => `${Math.round(100 * share)} %`;
const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
const currentLab = () => data.labs.find((one) => one.name === lab);
const nameOf = (learner) => (byId("hide-names").checked ? learner.account : learner.name);
const handOf = (learner) => data.hands.find((hand) => hand.account === learner.account);

// Return for each learner what they have reached in the lab that is shown.
function rows() {
  const exercises = currentLab().exercises;
  return data.learners.map((learner) => {
    const results = new Map(learner.results.filter((r) => r[0] === lab).map((r) => [r[1], r]));
    const cells = exercises.map((name) => {
      const [, , outcome, attempts] = results.get(name) ?? [lab, name, "unattempted", 0];
      return { name, outcome, attempts };
    });
    const passed = cells.filter((cell) => cell.outcome === "passed").length;
    return { learner, cells, passed, hand: handOf(learner)?.at ?? null };
  });
}

const ORDERS = {
  account: (a, b) => a.learner.account.localeCompare(b.learner.account),
  name: (a, b) => nameOf(a.learner).localeCompare(nameOf(b.learner)),
  hand: (a, b) => (a.hand ?? Infinity) - (b.hand ?? Infinity) || 0,
  passed: (a, b) => a.passed - b.passed,
  idle: (a, b) => (a.learner.last ?? 0) - (b.learner.last ?? 0),
};

function notebookLink(account, name) {
  const href = `notebook/${encodeURIComponent(account)}/${encodeURIComponent(lab)}`;
  const title = `Notebook of ${name} (${account})`;
  return element("a", { href, target: "_blank", rel: "noopener", title, dataset: { key: `notebook ${account}` } }, name);
}

function lastSeen(learner) {
  const parts = [learner.connected ? "" : "away", learner.last === null ? "" : age(learner.last)];
  if (learner.lab && learner.lab !== lab) parts.push(`lab ${learner.lab.slice(0, 2)}`);
  return parts.filter(Boolean).join(", ") || "–";
}

function learnerRow({ learner, cells, passed, hand }) {
  const name = nameOf(learner);
  const row = element("tr", { className: [hand !== null && "hand", !learner.connected && "away"].filter(Boolean).join(" ") });
  const heading = element("th", { scope: "row" }, notebookLink(learner.account, name));
  if (hand !== null) heading.prepend(element("strong", { className: "badge" }, "help"), " ");
  row.append(heading, element("td", {}, lastSeen(learner)));
  for (const cell of cells) {
    const attempts = cell.attempts ? `, ${cell.attempts} attempts` : "";
    const label = `${cell.name}: ${cell.outcome}${attempts}`;
    const node = element("td", { className: cell.outcome.replace(" ", "-"), title: label });
    node.append(element("span", { ariaHidden: "true" }, `${SIGNS[cell.outcome] ?? "?"}${cell.attempts > 1 ? ` ${cell.attempts}` : ""}`));
    node.ariaLabel = label;
    row.append(node);
  }
  const at = learner.handed_in[lab];
  row.append(
    element("td", {}, `${passed}/${cells.length}`),
    element("td", {}, at ? clock(at) : "–"),
    element("td", {}, learner.memory === null ? "–" : gigabytes(learner.memory)),
    element("td", {}, learner.cores === null ? "–" : learner.cores.toFixed(1)),
  );
  return row;
}

function learnerTable(all) {
  const headings = [["Learner"], ["Last"], ...currentLab().exercises.map((name) => [name, "exercise"]), ["Passed"], ["Handed in"], ["GB"], ["Cores"]];
  const head = element("tr", {}, ...headings.map(([text, className = ""]) => element("th", { scope: "col", className }, text)));
  return [element("thead", {}, head), element("tbody", {}, ...all.map(learnerRow))];
}

function labButtons(labs) {
  return labs.map((one) => {
    const bar = element("span", { className: "reached", ariaHidden: "true" }, element("span"));
    bar.firstChild.style.width = `${100 * one.reached}%`;
    const plan = one.planned === null ? "" : `, by the plan ${percent(one.planned)}`;
    if (plan) {
      bar.append(element("i"));
      bar.lastChild.style.left = `${99 * one.planned}%`;
    }
    const label = `Lab ${one.name.slice(0, 2)}, ${one.title}: the class has passed ${percent(one.reached)}${plan}`;
    const button = element("button", { type: "button", title: label, ariaLabel: label, ariaPressed: String(one.name === lab), dataset: { key: one.name } }, one.name.slice(0, 2), bar);
    button.addEventListener("click", () => {
      lab = one.name;
      isChosen = true;
      showAll();
    });
    return button;
  });
}

function handItems(hands) {
  if (!hands.length) return element("li", { className: "muted" }, "Nobody asks for help.");
  return hands.map((hand) => {
    const button = element("button", { type: "button", ariaLabel: `${hand.name} has been helped`, dataset: { key: `helped ${hand.account}` } }, "Helped");
    button.addEventListener("click", () => post("helped", { account: hand.account }));
    return element("li", {}, element("span", {}, `${hand.name}, lab ${hand.lab.slice(0, 2)}, ${hand.age}`), button);
  });
}

function wrongAnswers(answers) {
  if (!answers.length) return element("p", { className: "muted" }, "None in this lab so far.");
  const byExercise = Map.groupBy ? Map.groupBy(answers, (answer) => answer.exercise) : group(answers);
  return [...byExercise].flatMap(([exercise, list]) => [
    element("h3", {}, exercise),
    element("ol", {}, ...list.map((answer) => {
      let stuck = answer.num_stuck === answer.num_learners ? "" : ` (${answer.num_stuck} not passed yet)`;
      if (!answer.num_stuck) stuck = " (passed since)";
      return element("li", {}, element("span", { className: "count" }, `${answer.num_learners} × `), `${answer.message}${stuck}`);
    })),
  ]);
}

function group(answers) {
  const groups = new Map();
  for (const answer of answers) groups.set(answer.exercise, [...(groups.get(answer.exercise) ?? []), answer]);
  return groups;
}

function announcementItems(announcements) {
  return announcements.map((one) =>
    element("li", { value: one.number }, `${one.text} `, element("span", { className: "muted" }, `${one.at}, seen by ${one.readers} of ${one.learners}`)));
}

function solutionsButton({ name, hidden, canHide }) {
  if (!canHide) return "Learners may open all solutions (workshop.toml).";
  const number = name.slice(0, 2);
  const button = element("button", { type: "button", dataset: { key: "release" } }, hidden ? `Release the solutions of lab ${number}` : `Hide the solutions of lab ${number} again`);
  button.addEventListener("click", () => post("release", { lab: name, released: hidden }));
  return [hidden ? "Hidden. " : "Released. ", button];
}

function summary() {
  const connected = data.learners.filter((learner) => learner.connected).length;
  return `${connected} of ${data.learners.length} connected · ${data.hands.length} raised ${data.hands.length === 1 ? "hand" : "hands"}`;
}

// The lab in which most learners have last checked an answer.
function labOfClass() {
  const counts = new Map(data.labs.map((one) => [one.name, 0]));
  for (const learner of data.learners) {
    if (counts.has(learner.lab)) counts.set(learner.lab, counts.get(learner.lab) + 1);
  }
  const most = Math.max(...counts.values());
  return [...counts].find(([, count]) => count === most)?.[0];
}

function showAll() {
  if (!data?.labs.length) return;
  if (!isChosen) lab = labOfClass();
  if (!currentLab()) lab = data.labs[0].name;
  const current = currentLab();
  document.title = `${data.hands.length ? `(${data.hands.length}) ` : ""}Board: ${data.title}`;
  show("title", data.title, (title) => title);
  show("state", summary(), (text) => text);
  byId("state").classList.remove("lost");
  const { memory_used, memory_total, cores_used, cores_total } = data.machine;
  const machine = memory_total ? `Memory ${gigabytes(memory_used)} of ${gigabytes(memory_total)} GB · CPU ${cores_used.toFixed(1)} of ${cores_total} cores` : "";
  show("machine", machine, (text) => text);
  show("labs", data.labs.map((one) => ({ ...one, chosen: one.name === lab })), labButtons);
  show("lab-title", `Lab ${lab.slice(0, 2)}: ${current.title}`, (text) => text);
  show("pace", data.pace, (text) => text);
  showGroups();
  showLearners();
  show("hands", data.hands.map((hand) => {
    const learner = data.learners.find((one) => one.account === hand.account);
    return { ...hand, name: nameOf(learner), age: age(hand.at) };
  }), handItems);
  show("wrong", data.wrong.filter((answer) => answer.lab === lab), wrongAnswers);
  show("announcements", data.announcements.toReversed().map((one) => ({ ...one, at: clock(one.at), learners: data.learners.length })), announcementItems);
  show("solutions", { name: lab, hidden: current.hidden, canHide: data.can_hide }, solutionsButton);
}

function showGroups() {
  const groups = [...new Set(data.learners.map((learner) => learner.group).filter(Boolean))].sort();
  const chosen = byId("group").value;
  show("group", groups, () => ["", ...groups].map((name) => element("option", { value: name }, name || "all")));
  byId("group").value = groups.includes(chosen) ? chosen : "";
  byId("group").parentElement.hidden = groups.length < 1;
}

function showLearners() {
  const chosen = byId("group").value;
  const order = ORDERS[byId("sort").value];
  const all = rows().filter((row) => !chosen || row.learner.group === chosen).sort((a, b) => order(a, b) || ORDERS.account(a, b));
  const ages = all.map((row) => row.learner.last !== null && age(row.learner.last));
  show("learners", { all, ages, lab, hidden: byId("hide-names").checked }, () => learnerTable(all));
}

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => null);
  byId("message").textContent = response?.ok ? "" : (await response?.text()) ?? "The board does not answer: try again.";
  return Boolean(response?.ok);
}

function connect() {
  const source = new EventSource("stream");
  source.addEventListener("message", (event) => {
    data = JSON.parse(event.data);
    showAll();
  });
  source.addEventListener("error", () => {
    shown.delete("state");
    byId("state").textContent = "The connection is lost; what you see is old.";
    byId("state").classList.add("lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(reconnect, RETRY_MILLISECONDS);
  });
}

// The session may have ended: then the page leads to the sign-in.
async function reconnect() {
  const response = await fetch(".", { redirect: "manual" }).catch(() => null);
  if (response?.type === "opaqueredirect") location.reload();
  else if (response?.ok) connect();
  else setTimeout(reconnect, RETRY_MILLISECONDS);
}

for (const [outcome, sign] of Object.entries(SIGNS)) {
  byId("legend").append(element("span", { className: outcome.replace(" ", "-") }, sign), ` ${outcome} `);
}
for (const id of ["hide-names", "sort", "group"]) byId(id).addEventListener("change", showAll);
byId("announce").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await post("announce", { text: byId("text").value })) byId("text").value = "";
});
connect();
