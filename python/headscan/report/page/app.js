// The address bar holds the state: #, #L7.H3, #L7.H3/12, #L7.H3/12/write/+, #find?q=snow&sort=fidelity.

const OPTIONS = { map: ["by", "order", "side", "hide"], head: ["sort", "hide"], find: ["q", "sort", "hide"] };
const search_box = document.getElementById("search");
const main = document.getElementById("main");
const keys = document.getElementById("keys");
const hide_box = document.querySelector("#chance input");

function address({ view, layer, head, index = null, side = null, pole = null, ...rest }) {
  const places = [headName(layer, head), ...[index, side, pole].filter((part) => part !== null)];
  const path = view === "head" ? places.join("/") : view === "find" ? "find" : "";
  const kept = { ...rest, side: view === "map" && side, hide: hide_box.checked && 1 };
  const options = new URLSearchParams();
  for (const name of OPTIONS[view] ?? []) if (kept[name]) options.set(name, kept[name]);
  const asked = options.toString();
  return `#${path}${asked ? `?${asked}` : ""}`;
}

function current() {
  const text = location.hash.slice(1);
  const cut = text.indexOf("?");
  const path = cut < 0 ? text : text.slice(0, cut);
  const options = Object.fromEntries(new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)));
  const state = { ...options, hide: options.hide === "1" };
  const [place, index, side = null, pole = null] = path.split("/");
  const named = /^L(\d+)\.H(\d+)$/.exec(place);
  if (!named) return { ...state, view: path === "" ? "map" : path === "find" ? "find" : "lost" };
  const [layer, head, direction] = [named[1], named[2], index ?? NaN].map(Number);
  return { ...state, view: "head", layer, head, index: Number.isNaN(direction) ? null : direction, side, pole };
}

function notFound(text) {
  document.title = "headscan";
  const back = el("p", {}, el("a", { href: "#" }, "Back to the map"));
  return [el("section", { class: "lead" }, el("h1", {}, text), back)];
}

const lost = () => notFound("This address leads nowhere.");
const VIEWS = { map: showMap, head: showHead, find: showFind, lost };
let lastPage = null;

function show() {
  const state = current();
  hide_box.checked = state.hide;
  if (document.activeElement !== search_box) search_box.value = state.q ?? "";
  main.replaceChildren(...VIEWS[state.view](state).filter((part) => part !== null));
  const page = [state.view, state.layer, state.head].join();
  const chosen = main.querySelector("li.chosen");
  if (chosen) chosen.scrollIntoView({ block: "center" });
  else if (page !== lastPage) scrollTo(0, 0);
  lastPage = page;
}

function typed() {
  const q = search_box.value.trim();
  const to = q ? address({ view: "find", q, sort: current().sort }) : address({ view: "map" });
  if (q && current().view === "find") history.replaceState(null, "", to), show();
  else if (q || current().view === "find") location.hash = to;
}

function stepDirection(step) {
  const items = [...main.querySelectorAll("li.direction, li.hit")];
  const here = items.findIndex((item) => item.contains(document.activeElement));
  const next = items[Math.max(0, Math.min(items.length - 1, here + step))];
  (next?.matches(".hit") ? next.querySelector("a") : next)?.focus();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("headscan-theme", theme);
  } catch {} // no storage for this page: the choice lasts while it is open
}

function otherTheme() {
  const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  setTheme((document.documentElement.dataset.theme ?? preferred) === "dark" ? "light" : "dark");
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (event.key === "Escape") {
    search_box.blur();
    search_box.value = "";
    if (current().view !== "map") location.hash = address({ view: "map" });
    return;
  }
  if (event.target.matches("input[type=search]")) return;
  const turns = { ArrowLeft: "prev", ArrowRight: "next" };
  if (turns[event.key] && current().view === "head") main.querySelector(`a[rel=${turns[event.key]}]`)?.click();
  else if (MOVES[event.key] && current().view === "map" && !event.target.closest("table")) {
    event.preventDefault();
    main.querySelector("table.map a[tabindex='0']")?.focus();
  } else if (event.key === "/") event.preventDefault(), search_box.focus(), search_box.select();
  else if (event.key === "?") keys.showModal();
  else if (event.key === "t") otherTheme();
  else if (event.key === "j" || event.key === "k") stepDirection(event.key === "j" ? 1 : -1);
}

function begin() {
  const { info } = scan;
  document.getElementById("model").textContent = info.model;
  document.getElementById("made").textContent = [
    `headscan ${info.headscan}, ${info.created.slice(0, 10)}`,
    `k ${info.k}, ${info.method === "comp" ? `coherence ${info.coherence}` : `method ${info.method}`}`,
    `fidelity ${scan.fidelity}`,
    info.folded ? "layer norm folded in" : "layer norm left out",
    `weights ${info.weights_hash.slice(0, 12)}, dictionary ${info.dictionary_hash.slice(0, 12)}`,
  ].join(" · ");
  if (scan.chance) {
    document.getElementById("chance").hidden = false;
    const help = document.getElementById("chance-help");
    help.hidden = false;
    help.textContent = `Explanations in outline are no better than chance: ${scan.chance} of ${CHANCE} or more.`;
  }
  try {
    const theme = localStorage.getItem("headscan-theme");
    if (theme) setTheme(theme);
  } catch {}
  let waiting = 0;
  search_box.addEventListener("input", () => (clearTimeout(waiting), (waiting = setTimeout(typed, 60))));
  hide_box.addEventListener("change", () => (location.hash = address(current())));
  document.getElementById("theme").addEventListener("click", otherTheme);
  document.getElementById("help").addEventListener("click", () => keys.showModal());
  document.querySelector(".skip").addEventListener("click", (event) => (event.preventDefault(), main.focus()));
  addEventListener("hashchange", show);
  addEventListener("keydown", pressed);
  show();
}

begin();
