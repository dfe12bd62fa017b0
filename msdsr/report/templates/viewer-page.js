// --- the page around -----------------------------------------------------------------------------

function build() {
  $("panes").replaceChildren(...panes.map((pane, i) => {
    pane.canvases = Object.fromEntries(VIEWS.map((view) => {
      const canvas = make("canvas", { className: view });
      canvas.setAttribute("role", "img");
      return [view, canvas];
    }));
    pane.value = make("output", { className: "value" });
    pane.bar = make("span", { className: "bar" }, make("b"));
    const name = make("button", { type: "button", className: "name", title: `${pane.says} (key ${i + 1}: alone or with the others)` },
      make("kbd", { textContent: i + 1 }), pane.name);
    name.addEventListener("click", () => alone(pane));
    const views = make("div", { className: "views" }, ...VIEWS.map((view) => pane.canvases[view]), pane.bar);
    if (pane.against) views.append(legend("difference", "−25 %", "+25 %"));
    if (pane.spread) views.append(pane.legend = legend("spread", "0", ""));
    pane.node = make("figure", { className: "viewpane" }, make("figcaption", {}, name, pane.value), views);
    pane.node.dataset.pane = pane.key;
    return pane.node;
  }));
  $("chips").replaceChildren(...panes.map((pane) => {
    pane.chip = make("button", { type: "button", textContent: pane.name });
    pane.chip.addEventListener("click", () => toggle(pane));
    return pane.chip;
  }));
  const last = Math.max(1, planes() - 1);
  $("ticks").replaceChildren(...Array.from({ length: planes() }, (_, z) => z).filter(acquired).map((z) => {
    const tick = make("i");
    tick.style.left = `calc(${(100 * z) / last}% + ${(0.5 - z / last) * 18}px)`; // a thumb is 18 px wide
    return tick;
  }));
  $("z").max = planes() - 1;
}

const legend = (kind, low, high) => make("span", { className: `legend ${kind}` }, low, make("i"), high);

function drawControls() {
  $("z").value = S.z;
  $("z").setAttribute("aria-valuetext", planeText());
  const kept = acquired(S.z);
  $("where").textContent = `z ${S.z + 1} of ${planes()} · ${(S.z * um().z).toFixed(1)} µm · y ${S.y + data.y0} · x ${S.x + data.x0}`;
  $("kind").textContent = kept ? "acquired" : "generated";
  $("kind").className = kept ? "kind kept" : "kind";
  for (const radio of document.getElementsByName("factor")) radio.checked = Number(radio.value) === factor().factor;
  $("mode").value = S.mode;
  $("black").value = S.black;
  $("white").value = S.white;
  $("window").textContent = `${S.black} – ${S.white} %`;
  $("zoom").textContent = `${S.zoom.toFixed(1)}×`;
  $("cross").setAttribute("aria-pressed", S.cross);
  root.classList.toggle("zoomed", S.zoom > 1);
  root.classList.toggle("alone", S.only !== "");
  for (const pane of panes) pane.chip.setAttribute("aria-pressed", isSeen(pane));
}

let speaking = 0, writing = 0, written = "";
function changed() {
  redraw();
  clearTimeout(speaking);
  speaking = setTimeout(() => { $("live").textContent = planeText(); }, 350);
  clearTimeout(writing);
  writing = setTimeout(() => { written = `#${address()}`; history.replaceState(null, "", written); }, 200);
}

function address() {
  const fields = new URLSearchParams({ slide: data.slide, f: factor().factor, z: S.z + 1, y: S.y + data.y0, x: S.x + data.x0 });
  const fresh = start();
  if (S.mode !== fresh.mode) fields.set("colour", S.mode === "he" ? "he" : S.mode === "composite" ? S.mode : CHANNELS[S.mode].name);
  if (S.black !== 0 || S.white !== 100) fields.set("window", `${S.black},${S.white}`);
  if (S.zoom !== 1) fields.set("zoom", S.zoom.toFixed(2));
  if (S.only) fields.set("pane", S.only);
  return fields.toString();
}

let loading = 0;
/** Load the panes of a factor; false if the reader asked for another meanwhile. */
async function take(index) {
  const turn = ++loading, loaded = await load(data.factors[index]);
  return turn === loading && loaded;
}

/** Show what the address says; what it does not say, or says wrongly, stays as it begins. */
async function open(hash) {
  const fields = new URLSearchParams(hash.slice(1));
  if (fields.has("slide") && fields.get("slide") !== data.slide) { location.replace(`../slides.html${hash}`); return; }
  const number = (name, otherwise) => (Number.isFinite(parseFloat(fields.get(name))) ? parseFloat(fields.get(name)) : otherwise);
  const index = Math.max(0, data.factors.findIndex((f) => f.factor === number("f", 0))), loaded = await take(index);
  if (!loaded) return;
  S = start();
  S.factor = index;
  // A generated plane near the middle: where methods differ.
  const middle = Math.floor((planes() - 1) / 2 / factor().factor) * factor().factor + (factor().factor >> 1);
  S.z = clamp(Math.round(number("z", middle + 1)) - 1, 0, planes() - 1);
  S.y = clamp(Math.round(number("y", S.y + data.y0)) - data.y0, 0, ROWS - 1);
  S.x = clamp(Math.round(number("x", S.x + data.x0)) - data.x0, 0, COLUMNS - 1);
  const colour = fields.get("colour"), channel = CHANNELS.findIndex((c) => c.name === colour);
  if (channel >= 0) S.mode = String(channel);
  if (colour === "composite" || (colour === "he" && SRH)) S.mode = colour;
  const [black, white] = (fields.get("window") ?? "").split(",").map(Number);
  if (white > black) { S.black = clamp(black, -50, 95); S.white = clamp(white, S.black + 5, 200); }
  S.zoom = clamp(number("zoom", 1), 1, 16);
  S.only = fields.get("pane") ?? "";
  centre();
  put(loaded);
}

/** Put up panes that were loaded. */
function put(loaded) {
  panes = loaded;
  if (!panes.some((pane) => pane.key === S.only)) S.only = "";
  build();
  changed();
}

const centre = () => { S.centre = { y: (S.y + 0.5) * um().y, x: (S.x + 0.5) * um().x }; };
const alone = (pane) => { S.only = S.only === pane.key ? "" : pane.key; S.hidden.delete(pane.key); changed(); };
const toggle = (pane) => {
  if (S.only) S.hidden = new Set(panes.map((p) => p.key).filter((key) => key !== S.only));
  S.only = "";
  if (!S.hidden.delete(pane.key) && S.hidden.size < panes.length - 1) S.hidden.add(pane.key);
  changed();
};

function moveTo(at) {
  for (const [axis, value] of Object.entries(at)) S[axis] = clamp(Math.round(value), 0, size()[axis] - 1);
  if (S.zoom > 1) follow();
  changed();
}

/** Pan as little as keeps the cross-hair in sight. */
function follow() {
  for (const axis of ["y", "x"]) {
    const half = (size()[axis] * um()[axis]) / S.zoom / 2 - um()[axis], at = (S[axis] + 0.5) * um()[axis];
    S.centre[axis] = clamp(S.centre[axis], at - half, at + half);
  }
}

/** Zoom, and keep a place (µm) where it is on the canvas. */
function zoomTo(zoom, about = { y: (S.y + 0.5) * um().y, x: (S.x + 0.5) * um().x }) {
  const before = S.zoom;
  S.zoom = clamp(zoom, 1, 16);
  for (const axis of ["y", "x"]) {
    const half = (size()[axis] * um()[axis]) / S.zoom / 2, extent = size()[axis] * um()[axis];
    S.centre[axis] = clamp(about[axis] + ((S.centre[axis] - about[axis]) * before) / S.zoom, half, extent - half);
  }
  changed();
}

/** Go over to another factor, at the same depth. */
async function takeFactor(index) {
  const loaded = await take(index);
  if (!loaded) return;
  const depth = S.z * um().z;
  S.factor = index;
  S.z = clamp(Math.round(depth / um().z), 0, planes() - 1);
  put(loaded);
}

// --- hands ---------------------------------------------------------------------------------------

const keys = {
  ArrowLeft: (n) => moveTo({ x: S.x - n }), ArrowRight: (n) => moveTo({ x: S.x + n }),
  ArrowUp: (n) => moveTo({ y: S.y - n }), ArrowDown: (n) => moveTo({ y: S.y + n }),
  PageUp: (n) => moveTo({ z: S.z - n }), PageDown: (n) => moveTo({ z: S.z + n }),
  Home: () => moveTo({ z: 0 }), End: () => moveTo({ z: planes() - 1 }),
  "[": () => moveTo({ z: (Math.ceil(S.z / factor().factor) - 1) * factor().factor }),
  "]": () => moveTo({ z: (Math.floor(S.z / factor().factor) + 1) * factor().factor }),
  "+": () => zoomTo(S.zoom * 1.5), "=": () => zoomTo(S.zoom * 1.5), "-": () => zoomTo(S.zoom / 1.5),
  0: () => { S.only = ""; S.hidden.clear(); changed(); },
  c: () => { S.cross = !S.cross; changed(); },
  f: () => takeFactor((S.factor + 1) % data.factors.length),
  v: () => { const modes = [...$("mode").options].map((o) => o.value); S.mode = modes[(modes.indexOf(S.mode) + 1) % modes.length]; changed(); },
  r: () => reset(),
  "?": () => $("help").showModal(),
};
function reset() { Object.assign(S, { mode: start().mode, black: 0, white: 100, zoom: 1 }); centre(); changed(); }

root.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const own = event.target.matches("select, input"); // these know arrows, Home and Page keys themselves
  if (own && (event.target.matches("select") || event.key.length > 1)) return;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1], pane = digit && panes[digit - 1];
  if (pane) { if (event.shiftKey) toggle(pane); else alone(pane); }
  else if (keys[event.key]) keys[event.key](event.shiftKey ? 10 : 1);
  else return;
  event.preventDefault();
});

const paneOf = (target) => panes.find((pane) => pane.node.contains(target));
/** Return the view under a pointer, and the place there: voxels, and µm along the axes it shows. */
function under(event, canvas, pane) {
  const view = VIEWS.find((v) => pane.canvases[v] === canvas), box = canvas.getBoundingClientRect(), [h, v] = placing(pane, view);
  const ratio = canvas.width / box.width, [right, down] = AXES[view];
  const u = ((event.clientX - box.left) * ratio - h.at) / h.step, w = ((event.clientY - box.top) * ratio - v.at) / v.step;
  return { view, voxel: { [right]: Math.floor(u), [down]: Math.floor(w) }, um: { [right]: u * um()[right], [down]: w * um()[down] } };
}

const pointers = new Map();
let gesture = null;
$("panes").addEventListener("pointerdown", (event) => {
  if (event.target.tagName !== "CANVAS" || event.button > 0) return;
  root.focus({ preventScroll: true });
  event.target.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  gesture = pointers.size > 1 ? { pinch: spread(), zoom: S.zoom } : { from: event, centre: { ...S.centre }, moved: false };
  if (event.pointerType === "mouse" && S.zoom === 1) moveTo(under(event, event.target, paneOf(event.target)).voxel);
});
$("panes").addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) return;
  pointers.set(event.pointerId, event);
  const canvas = event.target, pane = paneOf(canvas), at = under(event, canvas, pane);
  if (gesture.pinch && pointers.size < 2) return; // one finger of two was lifted
  if (gesture.pinch) { zoomTo((gesture.zoom * spread()) / gesture.pinch, at.view === "xy" ? at.um : undefined); return; }
  const across = event.clientX - gesture.from.clientX, along = event.clientY - gesture.from.clientY;
  gesture.moved ||= Math.hypot(across, along) > 4;
  if (!gesture.moved) return;
  if (S.zoom === 1 || at.view !== "xy") { moveTo(at.voxel); return; }
  const scale = scaleOf(pane) / (window.devicePixelRatio || 1), bound = (axis, value) => {
    const half = (size()[axis] * um()[axis]) / S.zoom / 2;
    return clamp(value, half, size()[axis] * um()[axis] - half);
  };
  S.centre = { y: bound("y", gesture.centre.y - along / scale), x: bound("x", gesture.centre.x - across / scale) };
  changed();
});
$("panes").addEventListener("pointerup", (event) => {
  if (pointers.delete(event.pointerId) && !gesture.pinch && !gesture.moved)
    moveTo(under(event, event.target, paneOf(event.target)).voxel);
});
$("panes").addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };

let turned = 0;
$("panes").addEventListener("wheel", (event) => {
  if (event.target.tagName !== "CANVAS") return;
  const turn = event.deltaY * (event.deltaMode ? 30 : 1), pane = paneOf(event.target);
  if (event.ctrlKey) {
    const at = under(event, event.target, pane);
    zoomTo(S.zoom * Math.exp(-turn / 200), at.view === "xy" ? at.um : undefined);
  } else {
    if (S.z === (turn < 0 ? 0 : planes() - 1)) return; // at either end the page scrolls on
    turned = Math.sign(turn) === Math.sign(turned) ? turned + turn : turn;
    const count = Math.trunc(turned / 30);
    turned -= count * 30;
    if (count) moveTo({ z: S.z + clamp(count, -4, 4) });
  }
  event.preventDefault();
}, { passive: false });

$("z").addEventListener("input", () => moveTo({ z: Number($("z").value) }));
$("mode").addEventListener("change", () => { S.mode = $("mode").value; changed(); });
$("black").addEventListener("input", () => { S.black = Number($("black").value); S.white = Math.max(S.white, S.black + 5); changed(); });
$("white").addEventListener("input", () => { S.white = Number($("white").value); S.black = Math.min(S.black, S.white - 5); changed(); });
for (const radio of document.getElementsByName("factor"))
  radio.addEventListener("change", () => takeFactor(data.factors.findIndex((f) => f.factor === Number(radio.value))));
$("zoom-in").addEventListener("click", () => zoomTo(S.zoom * 1.5));
$("zoom-out").addEventListener("click", () => zoomTo(S.zoom / 1.5));
$("cross").addEventListener("click", keys.c);
$("reset").addEventListener("click", reset);
$("help-open").addEventListener("click", keys["?"]);
addEventListener("hashchange", (event) => {
  const { hash } = new URL(event.newURL); // by now the page may have written another
  if (hash !== written) open(hash);
});
new ResizeObserver(redraw).observe($("panes"));
open(location.hash);
