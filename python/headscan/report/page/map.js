// The first view: layers x heads as a map, and every head in a line.

const COLOURS = [
  ["strength", "strength", "Frobenius norm of the head's map from what it reads to what it writes"],
  ["fidelity", "fidelity", "Mean fidelity of the head's explanations, weighted by sigma squared"],
  ["better", "significance", `Share of explanations better than chance (${scan.chance} < ${CHANCE})`],
  ["theme", "theme", "The word that sets the head's explanations apart from those of all heads"],
].filter(([name]) => name !== "better" || scan.chance);
const THEME_HUES = 8;

function summaries(side) {
  return scan.summary.filter((head) => head.side === side);
}

/** Words that lead the theme of several heads, the most frequent first: these get a hue. */
function sharedWords(heads) {
  const counts = new Map();
  for (const { words } of heads) if (words.length) counts.set(words[0], (counts.get(words[0]) ?? 0) + 1);
  const shared = [...counts].filter(([, number]) => number > 1).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return shared.slice(0, THEME_HUES).map(([word]) => word);
}

function scale(heads, by) {
  if (by === "better") return [0, 1];
  const values = heads.map((head) => head[by]).filter(Number.isFinite);
  return [by === "fidelity" ? Math.min(0, ...values) : Math.min(...values), Math.max(...values)];
}

function reading(head, by) {
  if (by === "theme") return head.words[0] ?? "";
  return by === "better" ? percent(head.better) : fixed(head[by]);
}

/** Whether all that a head says is no more than chance would say. */
function isNoise(head) {
  return scan.chance && !head.clear;
}

function describe(head) {
  const parts = [`layer ${head.layer}, head ${head.head}`, `strength ${fixed(head.strength)}`];
  parts.push(`fidelity ${fixed(head.fidelity)}`);
  if (scan.chance) parts.push(`${percent(head.better)} better than chance`);
  if (head.words.length) parts.push(`about ${head.words.join(", ")}`);
  return parts.join("; ");
}

function mapCell(head, { by, range: [low, high], shared }) {
  const to = address({ view: "head", layer: head.layer, head: head.head });
  const attributes = { class: "", href: to, tabindex: -1 };
  attributes["aria-label"] = attributes.title = describe(head);
  if (by === "theme") {
    const hue = shared.indexOf(head.words[0]);
    if (hue >= 0) Object.assign(attributes, { class: "hue", "--hue": hue });
  } else {
    const share = high > low ? (head[by] - low) / (high - low) : 1;
    Object.assign(attributes, { class: "shade", "--v": share || 0 });
  }
  if (isNoise(head)) attributes.class += " chance";
  return el("a", attributes, el("span", { dir: "auto" }, reading(head, by)));
}

function mapTable(heads, by) {
  const shared = sharedWords(heads);
  const range = by === "theme" ? [0, 1] : scale(heads, by);
  const byName = new Map(heads.map((head) => [headName(head.layer, head.head), head]));
  const columns = Array.from({ length: scan.heads }, (_, head) => head);
  const rows = scan.layers.map((layer) => {
    const cell = (head) => {
      const summary = byName.get(headName(layer, head));
      return el("td", {}, summary ? mapCell(summary, { by, range, shared }) : null);
    };
    return el("tr", {}, el("th", { scope: "row" }, `L${layer}`), ...columns.map(cell));
  });
  const top = el("tr", {}, el("td"), ...columns.map((head) => el("th", { scope: "col" }, `H${head}`)));
  const size = scan.heads > 12 ? "map many" : "map";
  const named = { class: size, "--rows": rows.length, "aria-label": `Layers by heads, by ${by}` };
  const table = el("table", named, el("thead", {}, top), el("tbody", {}, ...rows));
  const first = table.querySelector("a");
  if (first) first.tabIndex = 0;
  table.addEventListener("keydown", moveOnMap);
  return [table, by === "theme" ? themeLegend(shared) : rampLegend(by, range)];
}

function rampLegend(by, [low, high]) {
  const ends = by === "better" ? ["0 %", "100 %"] : [fixed(low), fixed(high)];
  return el("p", { class: "legend" }, ends[0], el("span", { class: "ramp" }), ends[1]);
}

function themeLegend(shared) {
  const swatches = shared.map((word, hue) => el("span", { class: "hue swatch", "--hue": hue, dir: "auto" }, word));
  const note = shared.length ? "Shared by several heads:" : "No two heads share a leading word.";
  return el("p", { class: "legend" }, note, ...swatches);
}

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function moveOnMap(event) {
  const move = MOVES[event.key];
  const cell = event.target.closest("td");
  if (!move || !cell || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const row = cell.parentElement;
  const rows = row.parentElement.rows;
  const line = rows[row.rowIndex - 1 + move[0]];
  const next = line?.cells[cell.cellIndex + move[1]]?.querySelector("a");
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

const ORDERS = { layer: "layer", strength: "strength", fidelity: "fidelity" };
if (scan.chance) ORDERS.better = "significance";

function headLine(head, most) {
  const { layer, side, best } = head;
  const place = { view: "head", layer, head: head.head };
  const at = address({ ...place, index: best.index, side, pole: best.pole });
  const clearest = { href: at, title: "the direction with the largest sigma times fidelity" };
  const noise = isNoise(head);
  const about = noise ? "nothing better than chance" : head.words.join(", ") || "–";
  return el(
    "li", { class: noise ? "head chance" : "head" },
    el("a", { class: "where", href: address(place) }, headName(layer, head.head)),
    el("span", { class: "words", dir: "auto" }, about),
    meter(head.strength, { most: most.strength, label: "strength", digits: 1 }),
    meter(head.fidelity, { most: most.fidelity, label: "fidelity" }),
    scan.chance ? el("span", { class: "better", title: "better than chance" }, percent(head.better)) : null,
    el("span", { class: "best" }, el("a", clearest, `${best.index}${sign(best.pole)}`), chips(best.code)),
  );
}

function headList(heads, order) {
  const largest = (by) => Math.max(0.01, ...heads.map((head) => head[by]));
  const most = { strength: largest("strength"), fidelity: largest("fidelity") };
  const sorted = [...heads];
  if (order !== "layer") sorted.sort((a, b) => isNoise(a) - isNoise(b) || b[order] - a[order] || a.layer - b.layer || a.head - b.head);
  const names = ["head", "about", "strength", "fidelity", ...(scan.chance ? ["signif."] : [])];
  const cells = names.map((name) => el("span", {}, name));
  const titles = el("li", { class: "head titles", "aria-hidden": "true" }, ...cells);
  const list = el("ol", { class: scan.chance ? "heads tested" : "heads" }, titles);
  return growing(list, sorted, (head) => headLine(head, most), 80);
}

function showMap(state) {
  const side = scan.sides.includes(state.side) ? state.side : scan.sides[0];
  const by = COLOURS.some(([name]) => name === state.by) ? state.by : "fidelity";
  const order = state.order in ORDERS ? state.order : scan.chance ? "better" : "layer";
  const all = summaries(side);
  const heads = state.hide ? all.filter((head) => !isNoise(head)) : all;
  const here = { view: "map", by, order, side };
  const sides = scan.sides.map((name) => [name, name === "write" ? "what it writes" : "what it reads"]);
  const [table, legend] = mapTable(all, by);
  document.title = `${scan.info.model} · headscan`;
  return [
    el("section", { class: "lead" }, el("h1", { dir: "auto" }, scan.info.model), el("p", {}, leadText())),
    el("div", { class: "controls" },
      choices("Colour", COLOURS, by, (value) => ({ ...here, by: value })),
      sides.length > 1 ? choices("Side", sides, side, (value) => ({ ...here, side: value })) : null),
    el("div", { class: "overview" },
      el("section", { class: "plan", "aria-label": "Map" }, table, legend),
      el("section", { class: "list", "aria-label": "Heads" },
        choices("Order", Object.entries(ORDERS), order, (value) => ({ ...here, order: value })),
        headList(heads, order))),
  ];
}

/** The verdict in a sentence: which heads say more than chance. */
function verdictText() {
  if (!scan.chance) return "";
  const names = new Set(scan.summary.map((head) => headName(head.layer, head.head)));
  const clear = new Set(scan.summary.filter((head) => !isNoise(head)).map((head) => headName(head.layer, head.head)));
  const rest = clear.size < names.size ? "; the rest is hatched" : "";
  const share = `${percent(scan.better)} of the explanations are better than chance (${scan.chance} < ${CHANCE})`;
  return `${clear.size} of ${plural(names.size, "head")} say more than chance${rest}; ${share}. `;
}

function leadText() {
  const { info } = scan;
  const where = `${plural(scan.layers.length, "layer")} of ${plural(scan.heads, "head")}`;
  const what = `${plural(scan.rows, "explanation")} in words from ${plural(info.concepts, "concept")}`;
  return `${verdictText()}${where}, ${what} (${info.dictionary}).`;
}
