// Search over every explanation: words, phrases, exclusions and places.

const SORTS = [["sigma", "strength"], ["fidelity", "fidelity"]];
if (scan.chance) SORTS.push([scan.chance, "significance"]);

/** Read a search: {terms, without} folded texts; {layer, head, index} ranges; {side, pole} sets. */
function parsed(query) {
  const wanted = { terms: [], without: [], layer: null, head: null, index: null, side: null, pole: null };
  const part = /(-?)(?:(layer|head|index|side|pole):)?(?:"([^"]*)"?|(\S+))/g;
  for (const [, minus, key, quoted, plain] of query.matchAll(part)) {
    const value = quoted ?? plain;
    if (!value) continue;
    if (key === "side" || key === "pole") wanted[key] = folded(value).replace("−", "-");
    else if (key) wanted[key] = range(value);
    else (minus ? wanted.without : wanted.terms).push(folded(value));
  }
  return wanted;
}

function range(text) {
  const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [null, Infinity];
  return [Number(first), Number(last ?? first)];
}

const within = (bounds, value) => bounds === null || (bounds[0] <= value && value <= bounds[1]);

/** For a term: 1 for each text that contains it. */
function mask(term) {
  return Uint8Array.from(allFolded(), (text) => (text.includes(term) ? 1 : 0));
}

/** Every matching explanation as {layer, place, match}: match is the coefficient of the concepts that matched. */
function search(query, hide) {
  const wanted = parsed(query);
  const masks = wanted.terms.map(mask);
  const barred = wanted.without.map(mask);
  const hits = [];
  for (const number of scan.layers) {
    if (!within(wanted.layer, number)) continue;
    const layer = Layer.of(number);
    for (let place = 0; place < layer.length; place++) {
      if (!within(wanted.head, layer.head[place]) || !within(wanted.index, layer.index[place])) continue;
      if (wanted.side && !SIDES[layer.side[place]].startsWith(wanted.side)) continue;
      if (wanted.pole && POLES[layer.pole[place]] !== wanted.pole) continue;
      if (hide && layer.chance(place)) continue;
      const match = matched(layer, place, masks, barred);
      if (match >= 0) hits.push({ layer, place, match });
    }
  }
  return { hits, terms: wanted.terms };
}

function matched(layer, place, masks, barred) {
  const start = place * scan.k;
  let total = 0;
  const has = (texts, add) => {
    let any = false;
    for (let pick = start; pick < start + scan.k; pick++) {
      if (layer.coefficients[pick] < SHOWN || !texts[layer.atoms[pick]]) continue;
      any = true;
      if (add) total += layer.coefficients[pick];
    }
    return any;
  };
  if (barred.some((texts) => has(texts, false))) return -1;
  return masks.every((texts) => has(texts, true)) ? total : -1;
}

function sorted(hits, sort) {
  if (sort === "match") return hits.sort((a, b) => b.match - a.match);
  const least = sort === scan.chance ? 1 : -1;
  return hits.sort((a, b) => least * (a.layer[sort][a.place] - b.layer[sort][b.place]));
}

function hitLine({ layer, place }, terms) {
  const row = layer.row(place);
  const to = address({ ...row, view: "head" });
  return el(
    "li", { class: row.chance ? "hit chance" : "hit" },
    el("a", { class: "where", href: to }, `${headName(row.layer, row.head)} · ${row.index}`),
    el("span", { class: row.pole === "+" ? "sign plus" : "sign minus", title: `pole ${row.pole}` }, sign(row.pole)),
    el("span", { class: "side" }, row.side === "write" ? "writes" : "reads"),
    chips(row.code, terms),
    el("span", { class: "sigma", title: "sigma" }, `σ ${fixed(row.sigma)}`),
    meter(row.fidelity, { most: scan.most.fidelity, label: "fidelity" }),
    verdict(row),
  );
}

function showFind(state) {
  const query = state.q ?? "";
  const { hits, terms } = search(query, state.hide);
  const sorts = terms.length ? [["match", "match", "Coefficient of the concepts that match"], ...SORTS] : SORTS;
  const sort = sorts.some(([value]) => value === state.sort) ? state.sort : sorts[0][0];
  const heads = new Set(hits.map(({ layer, place }) => headName(layer.number, layer.head[place])));
  document.title = `${query || "all explanations"} · ${scan.info.model} · headscan`;
  const count = `${plural(hits.length, "explanation")} in ${plural(heads.size, "head")}`;
  const title = el("h1", { dir: "auto" }, query || "All explanations");
  const order = choices("Order", sorts, sort, (value) => ({ ...state, sort: value }));
  const list = el("ol", { class: scan.chance ? "hits tested" : "hits" });
  return [
    el("section", { class: "lead" }, title, el("p", { role: "status" }, hits.length ? count : "Nothing found.")),
    hits.length ? el("div", { class: "controls" }, order) : null,
    growing(list, sorted(hits, sort), (hit) => hitLine(hit, terms)),
  ];
}
