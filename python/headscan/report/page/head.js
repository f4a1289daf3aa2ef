// A head's page: its spectrum, and its directions with both poles, both sides and images.

const SPECTRUM_HEIGHT = 72;

function spectrum(directions, state) {
  const most = Math.max(...directions.map((d) => d.sigma));
  const best = Math.max(0.01, ...directions.map((d) => d.fidelity));
  const step = 10;
  const bars = directions.map((direction, place) => {
    const height = (SPECTRUM_HEIGHT * direction.sigma) / most;
    const figures = `sigma ${fixed(direction.sigma, 3)}, fidelity ${fixed(direction.fidelity)}`;
    const size = { x: place * step + 1, y: SPECTRUM_HEIGHT - height, width: step - 2, height };
    const title = el("title", {}, `direction ${direction.index}: ${figures}`);
    const bar = el("rect", { ...size, "--v": Math.max(0, direction.fidelity / best) }, title);
    const room = el("rect", { x: place * step, y: 0, width: step, height: SPECTRUM_HEIGHT, class: "room" });
    return el("g", { "data-index": direction.index, class: direction.index === state.index && "chosen" }, room, bar);
  });
  const view = `0 0 ${directions.length * step} ${SPECTRUM_HEIGHT}`;
  const label = `Spectrum of ${plural(directions.length, "direction")}, largest sigma ${fixed(most, 3)}`;
  const shape = { viewBox: view, preserveAspectRatio: "none", role: "img", "aria-label": label };
  const picture = el("svg", shape, ...bars);
  picture.addEventListener("click", (event) => {
    const index = event.target.closest("g")?.dataset.index;
    if (index !== undefined) location.hash = address({ ...state, index: Number(index), side: null, pole: null });
  });
  const least = Math.min(...directions.map((d) => d.sigma));
  const caption = `Singular values, ${fixed(most)} to ${fixed(least)}; a stronger colour means better explained.`;
  return el("figure", { class: "spectrum" }, picture, el("figcaption", {}, caption));
}

/** Group explanations by direction; a direction's fidelity is its best explanation's, its chance value the least. */
function directionsOf(rows) {
  const found = new Map();
  for (const row of rows) {
    const fresh = { index: row.index, sigma: row.sigma, rows: [], fidelity: -1, [scan.chance]: Infinity };
    const direction = found.get(row.index) ?? fresh;
    found.set(row.index, direction);
    direction.rows.push(row);
    direction.fidelity = Math.max(direction.fidelity, row.fidelity);
    if (scan.chance) direction[scan.chance] = Math.min(direction[scan.chance], row[scan.chance]);
  }
  return [...found.values()].sort((a, b) => a.index - b.index);
}

function explanationLine(row, state) {
  const chosen = row.index === state.index && row.side === state.side && row.pole === state.pole;
  const to = address({ ...state, index: row.index, side: row.side, pole: row.pole });
  const kind = ["explanation", row.chance ? "chance" : "", chosen ? "chosen" : ""].join(" ");
  return el(
    "div", { class: kind, "aria-current": chosen && "true" },
    el("a", { class: "side", href: to, title: "link to this one" }, row.side === "write" ? "writes" : "reads"),
    chips(row.code),
    el("span", { class: "fit" }, meter(row.fidelity, { most: scan.most.fidelity, label: "fidelity" }), verdict(row)),
    chosen ? el("span", { class: "more" }, details(row)) : null,
  );
}

function details(row) {
  const parts = ["sigma", ...scan.measures].map((name) => `${name.replaceAll("_", " ")} ${fixed(row[name], 4)}`);
  parts.push(row.certified ? "certified exact" : "not certified");
  return parts.join(" · ");
}

function directionItem(direction, state) {
  const poles = scan.poles.map((pole) => {
    const rows = direction.rows.filter((row) => row.pole === pole && !(state.hide && row.chance));
    rows.sort((a, b) => (a.side < b.side ? -1 : 1)); // read, then write
    const lines = rows.map((row) => explanationLine(row, state));
    return el("div", { class: pole === "+" ? "pole plus" : "pole minus" },
      el("span", { class: "sign", title: `pole ${pole}` }, sign(pole)),
      el("div", { class: "lines" }, ...lines, imageStrip(state, direction.index, pole)));
  });
  const to = address({ ...state, index: direction.index, side: null, pole: null });
  const share = direction.sigma / scan.most.sigma;
  const sigma = { class: "sigma", "--v": share, title: `sigma ${fixed(direction.sigma, 4)}` };
  return el("li", { class: direction.index === state.index ? "direction chosen" : "direction", tabindex: -1 },
    el("div", { class: "label" },
      el("a", { href: to, "aria-label": `direction ${direction.index}` }, direction.index),
      el("span", sigma, `σ ${fixed(direction.sigma)}`)),
    el("div", { class: "poles" }, ...poles));
}

/** Images along a direction: the top ones at +, the bottom ones at -, with the head's contribution. */
function imageStrip({ layer, head }, index, pole) {
  if (!scan.grounded.includes(layer)) return null;
  const { images, values, rank, count } = grounding(layer);
  const start = ((head * rank + index) * 2 + (pole === "+" ? 0 : 1)) * count;
  const picture = (place) => {
    const { name, data } = chunk("images")[images[place]];
    const title = `${name}: ${fixed(values[place], 3)}`;
    return el("img", { src: data, alt: name, title, loading: "lazy", width: 56, height: 56 });
  };
  const strip = Array.from({ length: count }, (_, place) => picture(start + place));
  return el("div", { class: "images", role: "group", "aria-label": `images at ${pole}` }, ...strip);
}

function neighbours(state) {
  const heads = summaries(scan.sides[0]);
  const place = heads.findIndex((head) => head.layer === state.layer && head.head === state.head);
  return [heads[place - 1], heads[place + 1]];
}

function turn(head, arrow, state) {
  if (!head) return el("span", { class: "turn" });
  const to = address({ view: "head", layer: head.layer, head: head.head, sort: state.sort });
  const name = headName(head.layer, head.head);
  const back = arrow === "←";
  return el("a", { class: "turn", href: to, rel: back ? "prev" : "next" }, back ? `← ${name}` : `${name} →`);
}

function showHead(state) {
  const rows = scan.layers.includes(state.layer) ? Layer.of(state.layer).rowsOf(state.head) : [];
  const name = headName(state.layer, state.head);
  if (!rows.length) return notFound(`There is no head ${name} in this scan.`);
  document.title = `${name} · ${scan.info.model} · headscan`;
  const directions = directionsOf(rows);
  const shown = state.hide ? directions.filter((d) => d.rows.some((row) => !row.chance)) : [...directions];
  const sort = SORTS.some(([value]) => value === state.sort) ? state.sort : "sigma";
  const least = sort === scan.chance ? 1 : -1;
  shown.sort((a, b) => least * (a[sort] - b[sort]) || a.index - b.index);
  const [before, after] = neighbours(state);
  const facts = scan.summary.filter((head) => head.layer === state.layer && head.head === state.head);
  const map = el("a", { href: address({ view: "map" }) }, "map");
  const order = choices("Order", SORTS, sort, (value) => ({ ...state, sort: value }));
  const hidden = plural(directions.length - shown.length, "direction");
  const note = shown.length < directions.length ? el("span", { class: "note" }, `${hidden} hidden`) : null;
  const title = el("h1", {}, `Layer ${state.layer}, head ${state.head}`);
  const reach = Math.max(32, shown.findIndex((direction) => direction.index === state.index) + 8);
  return [
    el("nav", { class: "turns", "aria-label": "Heads" }, turn(before, "←", state), map, turn(after, "→", state)),
    el("section", { class: "lead" }, title, ...facts.map(factLine)),
    spectrum(directions, state),
    el("div", { class: "controls" }, order, note),
    growing(el("ol", {}), shown, (direction) => directionItem(direction, state), reach),
  ];
}

function factLine(head) {
  const about = head.words.length ? head.words.join(", ") : "nothing in particular";
  const better = scan.chance ? `, ${percent(head.better)} better than chance` : "";
  const figures = ` · mean fidelity ${fixed(head.fidelity)}${better}`;
  const verb = head.side === "write" ? "Writes " : "Reads ";
  return el("p", {}, el("b", {}, verb), el("span", { dir: "auto" }, about), el("span", { class: "note" }, figures));
}
