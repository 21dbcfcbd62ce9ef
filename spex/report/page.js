"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const words = document.getElementById("words");
const segments = [...words.querySelectorAll(".segment")];
const lists = document.getElementById("interactions");
const together = document.getElementById("together");
const alone = document.getElementById("alone");
const arcs = document.getElementById("arcs");
const stage = document.getElementById("stage");
const kept = segments.map(() => true);
let output = 0;

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

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
const percent = (value) => (100 / (1 + Math.exp(-value))).toFixed(1) + " %";

function predict() {
  const coefficients = data.coefficients[output];
  const now = evaluate(data.supports, coefficients, kept);
  const all = evaluate(data.supports, coefficients, kept.map(() => true));
  const odds = data.isLogOdds ? ` (${percent(now)})` : "";
  document.getElementById("predicted").textContent = signed(now) + odds;
  document.getElementById("change").textContent =
    `${signed(now - all)} from ${signed(all)} with all kept; measured ${signed(data.intact[output])}`;
  document.getElementById("whatif").hidden = kept.every(Boolean);
}

function toggle(player) {
  kept[player] = !kept[player];
  const segment = segments[player];
  segment.classList.toggle("removed", !kept[player]);
  segment.setAttribute("aria-pressed", String(!kept[player]));
  predict();
}

function link(players, rows) {
  words.classList.toggle("linking", players.length > 0);
  segments.forEach((s, i) => s.classList.toggle("linked", players.includes(i)));
  for (const item of lists.querySelectorAll("[data-row]")) {
    item.classList.toggle("linked", rows.includes(Number(item.dataset.row)));
  }
  for (const arc of arcs.children) {
    const row = Number(arc.dataset.row);
    arc.classList.toggle("on", rows.includes(row));
    arc.classList.toggle("off", rows.length > 0 && !rows.includes(row));
  }
}

function rowsOf(player) {
  const found = data.views[output].interactions;
  return found.flatMap((interaction, row) => (interaction.players.includes(player) ? [row] : []));
}

function show(view) {
  const largest = Math.max(...view.influence.map(Math.abs)) || 1;
  segments.forEach((segment, i) => {
    const part = view.influence[i] / largest;
    const shade = (part > 0 ? "p" : "m") + Math.round(Math.abs(part) * 8);
    segment.className = `segment ${shade}${kept[i] ? "" : " removed"}`;
    segment.title = `on average ${signed(view.influence[i])} when kept`;
  });
  const items = rows(view);
  const isGroup = (item) => view.interactions[item.dataset.row].players.length > 1;
  together.replaceChildren(...items.filter(isGroup));
  alone.replaceChildren(...items.filter((item) => !isGroup(item)));
  document.getElementById("orders").textContent = view.orders;
  draw();
  predict();
}

function rows(view) {
  const widest = Math.max(...view.interactions.flatMap((i) => [Math.abs(i.low), Math.abs(i.high)])) || 1;
  return view.interactions.map((interaction, row) => {
    const item = document.createElement("li");
    item.className = `interaction ${interaction.value > 0 ? "p" : "m"}`;
    item.tabIndex = 0;
    item.dataset.row = row;
    const names = add(item, "names", "");
    interaction.names.forEach((name, i) => {
      if (i) add(names, "plus", "+", "span");
      add(names, "name", name, "span");
    });
    add(item, "value", signed(interaction.value));
    add(item, "reading", interaction.reading);
    item.append(bar(interaction, widest));
    add(item, "share", (100 * interaction.share).toFixed(1) + "% of variance");
    return item;
  });
}

function add(parent, name, text, tag = "div") {
  const child = document.createElement(tag);
  child.className = name;
  child.textContent = text;
  parent.append(child);
  return child;
}

function shape(tag, attributes) {
  const node = document.createElementNS("http:" + "//www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function bar(interaction, widest) {
  const place = (value) => 60 + (58 * value) / widest;
  const svg = shape("svg", { class: "bar", viewBox: "0 0 120 14" });
  const [zero, value] = [place(0), place(interaction.value)];
  svg.append(
    shape("line", { class: "axis", x1: zero, x2: zero, y1: 0, y2: 14 }),
    shape("rect", { x: Math.min(zero, value), y: 4, width: Math.abs(value - zero), height: 6, rx: 1 }),
    shape("line", { class: "whisker", x1: place(interaction.low), x2: place(interaction.high), y1: 7, y2: 7 }),
  );
  return svg;
}

// arcs join the strongest pairs, where the text is short and the screen wide
function draw() {
  arcs.replaceChildren();
  const isWide = stage.clientWidth > 620 && segments.length <= 60 && words.innerText.length < 700;
  const pairs = data.views[output].interactions
    .map((interaction, row) => ({ ...interaction, row }))
    .filter((interaction) => interaction.players.length === 2)
    .filter((pair, _, all) => Math.abs(pair.value) >= 0.2 * Math.abs(all[0].value))
    .slice(0, 5);
  stage.classList.toggle("arched", isWide && pairs.length > 0);
  if (!isWide) return;
  const frame = stage.getBoundingClientRect();
  for (const pair of pairs) {
    const ends = pair.players.map((player) => segments[player].getClientRects()[0]);
    const [a, b] = ends.map((r) => ({ x: r.left + r.width / 2 - frame.left, y: r.top - frame.top }));
    const height = Math.min(40, 14 + Math.abs(b.x - a.x) * 0.09);
    const top = Math.min(a.y, b.y) - height;
    const path = shape("path", {
      class: pair.value > 0 ? "p" : "m",
      d: `M${a.x},${a.y} C${a.x},${top} ${b.x},${top} ${b.x},${b.y}`,
    });
    path.dataset.row = pair.row;
    arcs.append(path);
  }
}

segments.forEach((segment, player) => {
  segment.addEventListener("click", () => toggle(player));
  segment.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    toggle(player);
  });
  for (const event of ["mouseenter", "focus"]) segment.addEventListener(event, () => link([], rowsOf(player)));
  for (const event of ["mouseleave", "blur"]) segment.addEventListener(event, () => link([], []));
});
const onRow = (event) => {
  const item = event.target.closest(".interaction");
  if (item) link(data.views[output].interactions[item.dataset.row].players, [Number(item.dataset.row)]);
};
for (const event of ["mouseover", "focusin", "click"]) lists.addEventListener(event, onRow);
for (const event of ["mouseleave", "focusout"]) lists.addEventListener(event, () => link([], []));
document.getElementById("reset").addEventListener("click", () => {
  kept.forEach((isKept, player) => isKept || toggle(player));
});
document.getElementById("output")?.addEventListener("change", (event) => {
  output = event.target.selectedIndex;
  show(data.views[output]);
});
addEventListener("resize", draw);
draw();
