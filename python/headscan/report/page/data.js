// The data: JSON chunks in the page, parsed when first asked for; columns are base64 of typed arrays.

const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array };
const chunks = new Map();

function chunk(name) {
  if (!chunks.has(name)) chunks.set(name, JSON.parse(document.getElementById(name).textContent));
  return chunks.get(name);
}

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text); // Chromium 140, Firefox 133, Safari 18.2
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place++) bytes[place] = letters.charCodeAt(place);
  return bytes;
}

function decoded([kind, text]) {
  return new KINDS[kind](bytesOf(text).buffer);
}

const scan = chunk("scan");
const SIDES = ["write", "read"];
const POLES = ["+", "-"];
const CHANCE = 0.05; // a larger p or q value: not better than chance
const SHOWN = 0.005; // a smaller coefficient would read 0.00

class Layer {
  static #all = new Map();

  static of(number) {
    if (!Layer.#all.has(number)) Layer.#all.set(number, new Layer(number));
    return Layer.#all.get(number);
  }

  constructor(number) {
    this.number = number;
    for (const [name, column] of Object.entries(chunk(`layer-${number}`))) this[name] = decoded(column);
    this.length = this.head.length;
  }

  /** One explanation; `code` holds its shown [text number, coefficient] pairs, the largest first. */
  row(place) {
    const code = [];
    for (let pick = place * scan.k; pick < (place + 1) * scan.k; pick++)
      if (this.coefficients[pick] >= SHOWN) code.push([this.atoms[pick], this.coefficients[pick]]);
    code.sort((a, b) => b[1] - a[1]);
    const measures = Object.fromEntries(["sigma", ...scan.measures].map((name) => [name, this[name][place]]));
    return {
      layer: this.number, head: this.head[place], index: this.index[place], certified: this.certified[place] === 1,
      side: SIDES[this.side[place]], pole: POLES[this.pole[place]], code, chance: this.chance(place), ...measures,
    };
  }

  chance(place) {
    return scan.chance !== null && !(this[scan.chance][place] < CHANCE);
  }

  rowsOf(head) {
    const rows = [];
    for (let place = 0; place < this.length; place++) if (this.head[place] === head) rows.push(this.row(place));
    return rows;
  }
}

/** A layer's images: numbers and values by head, direction, pole and place. */
const groundings = new Map();
function grounding(layer) {
  if (!groundings.has(layer)) {
    const { rank, count, images, values } = chunk(`ground-${layer}`);
    groundings.set(layer, { rank, count, images: decoded(images), values: decoded(values) });
  }
  return groundings.get(layer);
}

const texts = () => chunk("texts");

/** Text for comparing: without accents, case and double quotes, which mark a search's phrases. */
function folded(text) {
  const lower = text.toLowerCase().replaceAll('"', "");
  return /^[\0-\x7f]*$/.test(lower) ? lower : lower.normalize("NFKD").replace(/\p{M}/gu, "");
}

let foldedTexts = null;
function allFolded() {
  return (foldedTexts ??= texts().map(folded));
}
