"use strict";
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const [words, lists, together, stage, arcs] = ["words", "interactions", "together", "stage", "arcs"].map(at);
const segments = [...words.querySelectorAll("[data-player]")];
const kept = segments.map(() => true);
let output = 0;
let size = 0; // of the groups listed; 0 for every size
let isLong = false; // more groups than the first few
let pinned = null; // the row whose segments stay lit
let lit = [];
let drawn = []; // arcs, each with its row

// v(x) = sum of F(S) (-1)^(players of S that are kept)
function evaluate(supports, coefficients, mask) {
  let total = 0;
  supports.forEach((support, term) => {
    let odd = false;
    for (const player of support) if (mask[player]) odd = !odd;
    total += odd ? -coefficients[term] : coefficients[term];
  });
  return total;
}

function signed(value) {
  const isPlain = value === 0 || Math.abs(value) >= 0.01 && Math.abs(value) < 1e6;
  return (value < 0 ? "" : "+") + (isPlain ? value.toFixed(3) : String(Number(value.toPrecision(2))));
}

function chance(value) {
  if (data.scale === null) return "";
  const part = data.scale === "log-odds" ? 1 / (1 + Math.exp(-value)) : Math.min(1, Math.exp(value));
  return (100 * part).toFixed(1) + "%";
}

function element(tag, text, name = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = name;
  return node;
}

function shape(tag, attributes) {
  const node = document.createElementNS(arcs.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  arcs.append(node);
  return node;
}

const playersOf = (row) => row.dataset.players.split(" ").map(Number);
const rowsIn = (place) => [...place.querySelectorAll("[data-players]")];
const isSelected = (row) => size === 0 || playersOf(row).length === size;

function predict() {
  const coefficients = data.coefficients[output];
  const now = evaluate(data.supports, coefficients, kept);
  const whole = evaluate(data.supports, coefficients, kept.map(() => true));
  const removed = kept.filter((isKept) => !isKept).length;
  for (const [id, value] of [["measured", data.intact[output]], ["whole", whole], ["now", now]]) {
    at(id).replaceChildren(element("b", signed(value)), element("small", chance(value)));
  }
  const change = element("span", signed(now - whole), now > whole ? "up" : "down");
  at("removed").replaceChildren(...(removed ? [`${removed} removed, change `, change] : ["Nothing removed"]));
  at("reset").disabled = !removed;
}

function toggle(player) {
  kept[player] = !kept[player];
  segments[player].classList.toggle("removed", !kept[player]);
  segments[player].setAttribute("aria-pressed", String(!kept[player]));
}

function light(players, rows) {
  for (const node of lit) node.classList.remove("linked");
  lit = [...players.map((player) => segments[player]), ...rows];
  for (const node of lit) node.classList.add("linked");
  words.classList.toggle("linking", players.length > 0);
  for (const { path, row } of drawn) {
    path.classList.toggle("on", rows.includes(row));
    path.classList.toggle("off", rows.length > 0 && !rows.includes(row));
  }
}

const lightRow = (row) => light(playersOf(row), [row]);
const lightPlayer = (player) => light([], rowsIn(lists).filter((row) => playersOf(row).includes(player)));
const rest = () => (pinned ? lightRow(pinned) : light([], []));

function pin(row) {
  pinned?.classList.remove("pinned");
  pinned = pinned === row ? null : row;
  pinned?.classList.add("pinned");
  rest();
  if (pinned) segments[playersOf(pinned)[0]].scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function shade() {
  const influence = data.influence[output];
  const largest = influence.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  segments.forEach((segment, player) => {
    const part = influence[player] / largest;
    const step = (part > 0 ? "p" : "m") + Math.round(Math.abs(part) * data.shades);
    segment.className = `segment ${step}${kept[player] ? "" : " removed"}`;
    segment.title = `${signed(influence[player])} on average when kept`;
  });
}

function show() {
  // this markup was made and escaped where the page was
  for (const [id, markup] of Object.entries(data.views[output])) at(id).innerHTML = markup;
  pinned = null;
  lit = [];
  for (const row of rowsIn(lists)) row.tabIndex = 0;
  shade();
  offerSizes();
  select(0);
  predict();
}

function offerSizes() {
  const sizes = [...new Set(rowsIn(together).map((row) => playersOf(row).length))].sort((a, b) => a - b);
  const choices = sizes.length > 1 ? [0, ...sizes] : [];
  at("filter").replaceChildren(
    ...choices.map((choice) => {
      const button = element("button", choice === 0 ? "All" : choice === 2 ? "Pairs" : `Of ${choice}`);
      button.type = "button";
      button.dataset.size = choice;
      return button;
    }),
  );
}

function select(choice) {
  size = choice;
  for (const button of at("filter").children) button.setAttribute("aria-pressed", String(Number(button.dataset.size) === size));
  const rows = rowsIn(together);
  const selected = rows.filter(isSelected);
  const shown = isLong ? selected : selected.slice(0, data.top);
  for (const row of rows) row.hidden = !shown.includes(row);
  at("more").hidden = isLong || shown.length === selected.length;
  at("more").textContent = `Show ${selected.length - shown.length} more`;
  draw();
}

// arcs join the strongest pairs, where the text is short and the screen wide
function draw() {
  arcs.replaceChildren();
  drawn = [];
  const isShort = segments.length <= 60 && words.textContent.length < 700;
  const pairs = rowsIn(together).filter((row) => row.matches(":not([hidden], .unsure)") && playersOf(row).length === 2);
  const hasArcs = isShort && stage.clientWidth > 480 && pairs.length > 0;
  const isWordy = words.textContent.length > 24 * segments.length; // arcs would cross the text
  stage.classList.toggle("arched", hasArcs && !isWordy);
  if (!hasArcs) return;
  const frame = stage.getBoundingClientRect();
  pairs.slice(0, 6).forEach((row, rank) => {
    const ends = playersOf(row).map((player) => segments[player].getClientRects()[0]);
    const name = (row.classList.contains("p") ? "p" : "m") + (isWordy ? " quiet" : "");
    const path = shape("path", { class: name, d: curve(ends, frame), "stroke-width": 3 - 0.35 * rank });
    drawn.push({ path, row });
  });
}

function curve(ends, frame) {
  const [a, b] = ends.map((box) => ({ x: box.left + box.width / 2 - frame.left, y: box.top - frame.top }));
  const top = Math.min(a.y, b.y) - Math.min(38, 12 + Math.abs(a.x - b.x) * 0.08);
  return `M${a.x},${a.y} C${a.x},${top} ${b.x},${top} ${b.x},${b.y}`;
}

function start() {
  for (const segment of segments) {
    segment.setAttribute("role", "button");
    segment.setAttribute("aria-pressed", "false");
    segment.tabIndex = -1;
  }
  if (segments.length) segments[0].tabIndex = 0;
  at("whatif").hidden = at("hint").hidden = false;
  show();
}

// one stop for the tab key; arrows go from segment to segment
function move(from, step) {
  const next = segments[from + step];
  if (!next) return;
  segments[from].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function on(place, events, selector, act) {
  for (const name of events) {
    place.addEventListener(name, (event) => {
      const found = event.target.closest(selector);
      if (found) act(found, event);
    });
  }
}

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
const isPress = (event) => event.type === "click" || event.key === "Enter" || event.key === " ";

on(words, ["click", "keydown"], "[data-player]", (segment, event) => {
  const player = Number(segment.dataset.player);
  if (!isPress(event) && !STEPS[event.key]) return;
  event.preventDefault();
  if (STEPS[event.key]) return move(player, STEPS[event.key]);
  toggle(player);
  predict();
});
on(lists, ["click", "keydown"], "[data-players]", (row, event) => {
  if (!isPress(event)) return;
  event.preventDefault();
  pin(row);
});
on(words, ["mouseover", "focusin"], "[data-player]", (segment) => lightPlayer(Number(segment.dataset.player)));
on(lists, ["mouseover", "focusin"], "[data-players]", lightRow);
for (const place of [words, lists]) for (const name of ["mouseleave", "focusout"]) place.addEventListener(name, rest);
on(at("filter"), ["click"], "button", (button) => select(Number(button.dataset.size)));
at("more").addEventListener("click", () => {
  isLong = true;
  select(size);
});
at("reset").addEventListener("click", () => {
  kept.forEach((isKept, player) => isKept || toggle(player));
  predict();
});
at("output")?.addEventListener("change", (event) => {
  output = event.target.selectedIndex;
  show();
});
addEventListener("resize", draw);
start();
