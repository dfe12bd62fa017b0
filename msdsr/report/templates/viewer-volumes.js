// The viewer of a slide: panes that show one place, by every method, in XY, XZ and YZ. The page holds
// each volume once, as sheets of XY planes; all else is computed here. No library, no network.
const $ = (id) => document.getElementById(id);
const clamp = (v, low, high) => Math.min(high, Math.max(low, v));
const make = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

const data = JSON.parse($("data").textContent);
const { rows: ROWS, columns: COLUMNS, channels: CHANNELS, srh: SRH } = data;
const AREA = ROWS * COLUMNS;
const ALL = CHANNELS.map((_, c) => c);
const DIFFERENCE = 0.25; // of the window: where the colours of a difference end
const VIEWS = ["xy", "yz", "xz"];
const root = $("viewer");

// What is shown. z, y, x: voxels of the field; the centre is in µm, so that it outlives a factor.
const start = () => ({
  factor: 0, z: 0, y: ROWS >> 1, x: COLUMNS >> 1, mode: SRH || CHANNELS.length > 1 ? "composite" : "0",
  black: 0, white: 100, zoom: 1, centre: null, only: "", hidden: new Set(), cross: true,
});
let S = start();
let panes = [];
const factor = () => data.factors[S.factor];
const planes = () => factor().planes;
const um = () => ({ z: factor().z_um, y: data.um[0], x: data.um[1] });
const size = () => ({ z: planes(), y: ROWS, x: COLUMNS });
const acquired = (z) => z % factor().factor === 0;

// --- volumes -------------------------------------------------------------------------------------

const sheets = new Map();
/** Return a volume's channels, each planes × rows × columns bytes, out of its sheets. */
async function unpack(stack) {
  if (!sheets.has(stack)) sheets.set(stack, Promise.all(stack.sheets.map((uri) => readSheet(uri, stack)))
    .then((parts) => parts.flat().slice(0, CHANNELS.length)));
  return sheets.get(stack);
}

async function readSheet(uri, { planes: count, across }) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  const { width, height } = picture;
  const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const bytes = context.getImageData(0, 0, width, height).data;
  const channels = [0, 1, 2].map(() => new Uint8Array(count * AREA));
  for (let z = 0, to = 0; z < count; z++) {
    const left = (z % across) * COLUMNS, top = Math.floor(z / across) * ROWS;
    for (let y = 0; y < ROWS; y++) {
      let from = ((top + y) * width + left) * 4;
      for (let x = 0; x < COLUMNS; x++, to++, from += 4)
        for (let c = 0; c < 3; c++) channels[c][to] = bytes[from + c];
    }
  }
  return channels;
}

/** Fill the planes between the acquired ones; the lower one wins half-way, as in the evaluation. */
function between(source, f, linear) {
  return source.map((from) => {
    const out = new Uint8Array(f.planes * AREA);
    for (let z = 0; z < f.planes; z++) {
      const low = Math.floor(z / f.factor), part = (z % f.factor) / f.factor;
      const a = low * f.keep * AREA, b = part ? a + f.keep * AREA : a;
      const to = z * AREA, near = part > 0.5 ? b : a;
      if (!linear) out.set(from.subarray(near, near + AREA), to);
      else for (let i = 0; i < AREA; i++) out[to + i] = Math.round(from[a + i] * (1 - part) + from[b + i] * part);
    }
    return out;
  });
}

/** Return the planes of the truth that lie where a factor's planes do. */
function truthAt(source, f) {
  return source.map((from) => {
    const out = new Uint8Array(f.planes * AREA);
    for (let z = 0; z < f.planes; z++) {
      const at = z * f.truth_step * AREA;
      out.set(from.subarray(at, at + AREA), z * AREA);
    }
    return out;
  });
}

/** Return the panes of a factor: what was given, what was made, and how they differ. */
async function load(f) {
  const source = await unpack(data.acquired);
  const input = { key: "input", name: "Input", says: "acquired planes, the nearer one repeated", voxels: between(source, f, false) };
  const linear = { key: "linear", name: "Linear", says: "interpolation", voxels: between(source, f, true) };
  const found = [input, linear];
  for (const m of f.methods)
    found.push({ key: m.name, name: m.name, says: "super-resolved", voxels: await unpack(m.stack) });
  let against = linear;
  if (data.truth) {
    against = { key: "truth", name: "Truth", says: "what was there", voxels: truthAt(await unpack(data.truth), f) };
    found.push(against);
  }
  const methods = found.slice(2, 2 + f.methods.length);
  for (const pane of methods)
    found.push({ key: `${pane.key}-difference`, name: `${pane.name} − ${against.name.toLowerCase()}`, says: "difference",
      voxels: pane.voxels, against: against.voxels });
  for (const [i, { spread }] of f.methods.entries())
    if (spread) found.push({ key: `${methods[i].key}-spread`, name: `${methods[i].name} uncertainty`,
      says: "standard deviation", voxels: await unpack(spread.stack), spread: spread.high });
  return found;
}

// --- colours -------------------------------------------------------------------------------------

const pack = (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const raw = (c, v) => CHANNELS[c].low + (v / 255) * (CHANNELS[c].high - CHANNELS[c].low);
const part = (value, { black, white }) =>
  clamp(((value - black) / (white - black) - S.black / 100) / ((S.white - S.black) / 100), 0, 1);
const byte = (v) => Math.round(v * 255);
const table = (length, entry) => {
  const out = new Uint32Array(length);
  for (let i = 0; i < length; i++) out[i] = entry(i);
  return out;
};
const grey = (v) => pack(v, v, v);
const ramp = (stops) => table(256, (i) => {
  const at = (i / 255) * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(at));
  return pack(...stops[k].map((v, c) => Math.round(v + (stops[k + 1][c] - v) * (at - k))));
});
const DIVERGING = ramp([[120, 200, 255], [40, 120, 220], [0, 0, 0], [225, 95, 20], [255, 205, 110]]);
const SEQUENTIAL = ramp([[0, 0, 0], [70, 15, 110], [190, 50, 90], [245, 140, 40], [252, 255, 165]]);

let mixed = { key: "" };
/** Return which channels the colouring mixes, and the look-up tables from their bytes to colours. */
function colouring() {
  const key = `${S.mode} ${S.black} ${S.white}`;
  if (mixed.key !== key) mixed = { key, ...mix() };
  return mixed;
}

function mix() {
  if (S.mode !== "composite" && S.mode !== "he") {
    const c = Number(S.mode);
    return { of: [c], lut: table(256, (v) => grey(byte(part(raw(c, v), CHANNELS[c])))) };
  }
  if (SRH) {
    const { ch2, ch3, offset, haematoxylin: h, eosin: e } = SRH;
    const entry = (i) => {
      const a = raw(ch2, i >> 8), b = raw(ch3, i & 255), red = part(Math.max(b - a + offset, 0), SRH);
      const green = part(a, CHANNELS[ch2]);
      if (S.mode === "composite") return pack(byte(red), byte(green), byte(part(b, CHANNELS[ch3])));
      return pack(...h.map((v, c) => byte(Math.exp(-(v * red + e[c] * green)))));
    };
    return { of: [ch2, ch3], lut: table(65536, entry) };
  }
  const shown = (c, v) => byte(part(raw(c, v), CHANNELS[c]));
  if (CHANNELS.length === 2)
    return { of: [0, 1], lut: table(65536, (i) => { const m = shown(0, i >> 8); return pack(m, shown(1, i & 255), m); }) };
  return { of: [0, 1, 2], luts: [0, 8, 16].map((shift, c) => table(256, (v) => ((255 << 24) | (shown(c, v) << shift)) >>> 0)) };
}

/** Return a function from a voxel's index in a pane to its colour. */
function shader(pane, colours) {
  const of = S.mode === "composite" || S.mode === "he" ? ALL : colours.of;
  if (pane.against) return (i) => DIVERGING[Math.round(127.5 + 127.5 * clamp(difference(pane, of, i) / DIFFERENCE, -1, 1))];
  if (pane.spread) return (i) => SEQUENTIAL[Math.round(of.reduce((sum, c) => sum + pane.voxels[c][i], 0) / of.length)];
  const [a, b, c] = colours.of.map((channel) => pane.voxels[channel]);
  if (c) return (i) => (colours.luts[0][a[i]] | colours.luts[1][b[i]] | colours.luts[2][c[i]]) >>> 0;
  return b ? (i) => colours.lut[(a[i] << 8) | b[i]] : (i) => colours.lut[a[i]];
}

const steps = CHANNELS.map(({ low, high, black, white }) => (high - low) / 255 / (white - black));
/** Return by how much a voxel differs, as a part of the window, the mean of some channels. */
function difference(pane, of, i) {
  let sum = 0;
  for (const c of of) sum += (pane.voxels[c][i] - pane.against[c][i]) * steps[c];
  return sum / of.length;
}
