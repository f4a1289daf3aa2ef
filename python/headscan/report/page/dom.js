// Small makers of elements. Text only ever enters as text: nothing here, or elsewhere, parses HTML.

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "rect", "title", "g"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("--")) made.style.setProperty(name, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const sign = (pole) => (pole === "-" ? "−" : "+");
const fixed = (number, digits = 2) => (Number.isFinite(number) ? number.toFixed(digits).replace("-", "−") : "–");
const count = (number) => number.toLocaleString("en");
const plural = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;
const headName = (layer, head) => `L${layer}.H${head}`;
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

/** A row's p or q value, where the scan has one. */
function verdict(row) {
  if (!scan.chance) return null;
  const value = row[scan.chance];
  const words = row.chance ? "chance" : value < 0.001 ? "< 0.001" : fixed(value, 3);
  return el("span", { class: "p", title: `${scan.chance} ${fixed(value, 4)}` }, words);
}

/** A concept, its coefficient as shade and number; leads to every explanation with the concept. */
function chip([text, coefficient], terms = []) {
  const words = typeof text === "number" ? texts()[text] : text;
  const to = address({ view: "find", q: `"${words.replaceAll('"', "")}"` });
  const hit = terms.some((term) => folded(words).includes(term));
  const attributes = { class: "chip", href: to, "--c": Math.min(1, coefficient / 0.6) };
  return el("a", attributes, el(hit ? "mark" : "span", { dir: "auto" }, words), el("small", {}, fixed(coefficient)));
}

function chips(code, terms = []) {
  return el("span", { class: "chips" }, ...(code.length ? code.map((pair) => chip(pair, terms)) : ["no concepts"]));
}

/** A number with a bar of its size. */
function meter(value, { most, label, digits = 2 }) {
  const share = Math.max(0, Math.min(1, value / most)) || 0;
  return el("span", { class: "meter", "--v": share, title: `${label} ${fixed(value, 4)}` }, fixed(value, digits));
}

/** A group of exclusive choices, as links that keep the rest of the address. */
function choices(label, options, chosen, change) {
  const link = ([value, name, hint]) =>
    el("a", { href: address(change(value)), title: hint, "aria-current": value === chosen && "true" }, name);
  return el("nav", { class: "choices", "aria-label": label }, el("span", {}, label), ...options.map(link));
}

/** Append what `make` gives for each item, a screenful now and the rest as it comes into view. */
function growing(list, items, make, step = 60) {
  let shown = 0;
  const end = el("li", { class: "end", "aria-hidden": "true" });
  const grow = () => {
    end.before(...items.slice(shown, shown + step).map(make));
    shown += step;
    if (shown >= items.length) end.remove();
  };
  const near = (seen) => {
    if (!seen.at(-1).isIntersecting) return;
    grow();
    watch.unobserve(end); // observed anew it reports anew, were it in view still
    if (shown < items.length) watch.observe(end);
  };
  const watch = new IntersectionObserver(near, { rootMargin: "800px" });
  list.append(end);
  grow();
  watch.observe(end);
  return list;
}
