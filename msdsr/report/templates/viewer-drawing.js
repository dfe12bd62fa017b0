// --- drawing -------------------------------------------------------------------------------------

// Of each view: which axis runs to the right and which down, and which one it cuts.
const AXES = { xy: ["x", "y", "z"], yz: ["z", "y", "x"], xz: ["x", "z", "y"] };
const STRIDE = { z: AREA, y: COLUMNS, x: 1 };
const offscreen = make("canvas");

/** Return where an axis lies on a canvas of this length: offset of voxel 0, and pixels a voxel. */
function place(axis, length, scale) {
  const step = scale * um()[axis], extent = step * size()[axis];
  const centre = axis === "z" ? (S.z + 0.5) * step : S.centre[axis] * scale;
  return { step, at: extent <= length ? (length - extent) / 2 : clamp(length / 2 - centre, length - extent, 0) };
}

const scaleOf = (pane) => (S.zoom * pane.canvases.xy.width) / (COLUMNS * data.um[1]);
function placing(pane, view) {
  const canvas = pane.canvases[view], scale = scaleOf(pane), [right, down] = AXES[view];
  return [place(right, canvas.width, scale), place(down, canvas.height, scale)];
}

function drawView(pane, view, shade) {
  const [right, down, cut] = AXES[view], width = size()[right], height = size()[down];
  if (offscreen.width !== width || offscreen.height !== height) Object.assign(offscreen, { width, height });
  const context = offscreen.getContext("2d", { willReadFrequently: true });
  const pixels = new ImageData(width, height), out = new Uint32Array(pixels.data.buffer);
  for (let v = 0, k = 0; v < height; v++)
    for (let u = 0, i = S[cut] * STRIDE[cut] + v * STRIDE[down]; u < width; u++, i += STRIDE[right]) out[k++] = shade(i);
  context.putImageData(pixels, 0, 0);
  const canvas = pane.canvases[view], [h, v] = placing(pane, view), to = canvas.getContext("2d");
  to.imageSmoothingEnabled = false;
  to.fillStyle = "#05090c";
  to.fillRect(0, 0, canvas.width, canvas.height);
  to.drawImage(offscreen, h.at, v.at, width * h.step, height * v.step);
  if (S.cross) drawMarks(to, view, h, v);
}

/** Draw the cross-hair, and on cross-sections a tick at every acquired plane. */
function drawMarks(to, view, h, v) {
  const [right, down] = AXES[view], { width, height } = to.canvas, ratio = window.devicePixelRatio || 1;
  const column = Math.round(h.at + (S[right] + 0.5) * h.step), row = Math.round(v.at + (S[down] + 0.5) * v.step);
  const gap = 5 * ratio;
  for (const [colour, thick] of [["#0006", 3 * ratio], ["#ffd54a", Math.max(1, Math.round(ratio))]]) {
    to.fillStyle = colour;
    const shift = -Math.floor(thick / 2);
    to.fillRect(column + shift, 0, thick, row - gap);
    to.fillRect(column + shift, row + gap, thick, height);
    to.fillRect(0, row + shift, column - gap, thick);
    to.fillRect(column + gap, row + shift, width, thick);
  }
  if (view === "xy") return;
  to.fillStyle = "#5cc8c4";
  const axis = view === "xz" ? v : h, long = 5 * ratio, thick = Math.max(ratio, Math.min(axis.step, 3 * ratio));
  for (let z = 0; z < planes(); z += factor().factor) {
    const at = axis.at + (z + 0.5) * axis.step - thick / 2;
    if (view === "xz") to.fillRect(0, at, long, thick); else to.fillRect(at, 0, thick, long);
  }
}

/** Give every canvas the size it has on the screen: cross-sections as deep as the stack, to scale. */
function measure(pane) {
  const box = pane.node.querySelector(".views"), ratio = window.devicePixelRatio || 1;
  const depth = (planes() * um().z) / (COLUMNS * data.um[1]), share = clamp(depth, 0.16, 0.5);
  const width = Math.max(40, Math.floor((box.clientWidth - 3) / (1 + share))), strip = Math.round(width * share);
  const height = Math.round((width * ROWS * data.um[0]) / (COLUMNS * data.um[1]));
  box.style.gridTemplateColumns = `${width}px ${strip}px`;
  for (const [view, w, h] of [["xy", width, height], ["yz", strip, height], ["xz", width, strip]]) {
    const canvas = pane.canvases[view], wide = Math.round(w * ratio), high = Math.round(h * ratio);
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    Object.assign(canvas.style, { width: `${w}px`, height: `${h}px` });
  }
}

let waiting = 0;
const redraw = () => { waiting ||= requestAnimationFrame(draw); };
function draw() {
  waiting = 0;
  if (!panes.length) return; // still loading
  const colours = colouring(), seen = panes.filter(isSeen);
  const long = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].filter((l) => l <= (COLUMNS * data.um[1]) / S.zoom / 3).pop() ?? 1;
  for (const pane of panes) pane.node.hidden = !isSeen(pane);
  // As many panes in a row as fit, in rows that are as even as can be; two on a telephone.
  const most = Math.max(2, Math.floor($("panes").clientWidth / 290)), lines = Math.ceil(seen.length / most);
  $("panes").style.setProperty("--across", Math.ceil(seen.length / lines));
  for (const pane of seen) measure(pane);
  for (const pane of seen) {
    const shade = shader(pane, colours);
    for (const view of VIEWS) drawView(pane, view, shade);
    pane.canvases.xy.setAttribute("aria-label", `${pane.name}, XY at ${planeText()}`);
    pane.canvases.xz.setAttribute("aria-label", `${pane.name}, XZ through y ${S.y + data.y0}`);
    pane.canvases.yz.setAttribute("aria-label", `${pane.name}, YZ through x ${S.x + data.x0}`);
    pane.value.textContent = valueText(pane);
    pane.value.title = "at the cross-hair";
    if (pane.legend) pane.legend.lastChild.textContent = Number.isNaN(+S.mode) ? "high" : short(pane.spread[S.mode]);
    pane.bar.hidden = pane !== seen[0];
    pane.bar.style.width = `${(long * scaleOf(pane)) / (window.devicePixelRatio || 1)}px`;
    pane.bar.firstChild.textContent = `${long} µm`;
  }
  drawControls();
  root.dataset.ready = "yes";
}

const isSeen = (pane) => (S.only ? pane.key === S.only : !S.hidden.has(pane.key));
const planeText = () => `plane ${S.z + 1} of ${planes()}, ${(S.z * um().z).toFixed(1)} µm, ${acquired(S.z) ? "acquired" : "generated"}`;
const short = (v) => (Math.abs(v) >= 100 ? v.toFixed(0) : v.toPrecision(3));

/** Return what stands under the cross-hair, in raw intensities or in per cent of the window. */
function valueText(pane) {
  const i = S.z * AREA + S.y * COLUMNS + S.x;
  const of = S.mode === "composite" || S.mode === "he" ? ALL : [Number(S.mode)];
  if (pane.against) return `${(100 * difference(pane, of, i)).toFixed(1).replace("-", "−")} %`;
  return of.map((c) => {
    const value = pane.spread ? (pane.voxels[c][i] / 255) * pane.spread[c] : raw(c, pane.voxels[c][i]);
    return of.length > 1 ? `${CHANNELS[c].name} ${short(value)}` : short(value);
  }).join(" · ");
}
