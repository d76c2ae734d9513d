// The page: reads the data, draws the strips, and lets mouse, touch and keyboard move the clock and the camera.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const columns = (text, rows, width, count) => { // [T, count, width] -> count arrays [T * width]
  const all = floats(text), found = [];
  for (let b = 0; b < count; b++) {
    const one = new Float32Array(rows * width);
    for (let i = 0; i < rows; i++) for (let j = 0; j < width; j++) one[i * width + j] = all[(i * count + b) * width + j];
    found.push(one);
  }
  return found;
};

const runs = data.runs.map((run) => {
  const times = floats(run.times), n = times.length, count = run.names.length, strandTimes = floats(run.strandTimes);
  const part = { ...run, times, strandTimes, truth: columns(run.truth, n, 3, count), forecast: columns(run.forecast, n, 3, count), error: columns(run.error, n, 1, count) };
  part.sigma = run.sigma ? columns(run.sigma, n, 1, count) : run.names.map(() => null);
  part.strands = run.strands.map((text) => columns(text, strandTimes.length, 3, count));
  part.floor = run.floor.map(floats);
  part.samples = [];
  for (const path of [...part.truth, ...part.forecast])
    for (let i = 0; i < n; i += 4) { const p = [path[3 * i], path[3 * i + 1], path[3 * i + 2]]; if (p.every((x) => Math.abs(x) <= 0.75)) part.samples.push(p); }
  return part;
});
const first = Math.min(...runs.map((run) => run.times[0])), last = Math.max(...runs.map((run) => run.times[run.times.length - 1]));
const state = { time: last, playing: false, speed: 1, theme: data.theme, shown: { truth: true, forecast: true, bands: true, trails: true, window: 0 } };
const camera = new Camera(...data.camera);
const scene = new Scene($("scene"), runs, camera);
const theme = () => data.themes[state.theme];
let waiting = false;
const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(paint); } };

function boxes() { // of the runs in the canvas, in its pixels from the lower left; below one another where it is narrow
  const { width, height } = $("scene"), beside = runs.length === 1 || $("scene").clientWidth / runs.length >= 300;
  return runs.map((_, i) => beside
    ? [Math.round(i * width / runs.length), 0, Math.round(width / runs.length), height]
    : [0, Math.round(height - (i + 1) * height / runs.length), width, Math.round(height / runs.length)]);
}

function paint() {
  waiting = false;
  const canvas = $("scene"), scale = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  scene.render(state.time, state.shown, theme(), boxes());
  heads(scale);
  strips();
  $("slider").value = 1000 * (state.time - first) / (last - first);
  $("time").textContent = `${data.timeUnit === "year" ? "" : "t = "}${state.time.toFixed(data.digits)}${data.timeUnit && data.timeUnit !== "year" ? " " + data.timeUnit : ""}`;
  $("play").textContent = state.playing ? "❚❚" : "▶";
}

function heads(scale) { // the name and score of every run, over its picture
  if (runs.length === 1) return;
  boxes().forEach((box, i) => {
    let head = $(`head${i}`);
    if (!head) {
      head = document.createElement("div"); head.id = `head${i}`; head.className = "head";
      const name = document.createElement("span"), score = document.createElement("b"), small = document.createElement("small");
      name.textContent = runs[i].title; score.textContent = runs[i].score; small.textContent = runs[i].score ? "rms distance, forecast" : "";
      score.append(small); head.append(name, score); $("main").append(head);
    }
    head.style.left = `${box[0] / scale}px`; head.style.width = `${box[2] / scale}px`;
    head.style.top = `${$("scene").clientHeight - (box[1] + box[3]) / scale}px`;
  });
}

const areas = () => { // of the strips: left, right, top, bottom, in CSS pixels
  const width = $("strips").clientWidth, each = width / runs.length;
  return runs.map((_, i) => [i * each + (i ? 22 : 64), (i + 1) * each - 22, 16, 82]);
};

function strips() {
  const canvas = $("strips"), scale = Math.min(window.devicePixelRatio || 1, 2), pen = canvas.getContext("2d");
  canvas.width = Math.round(canvas.clientWidth * scale); canvas.height = Math.round(canvas.clientHeight * scale);
  pen.scale(scale, scale); pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  pen.font = "11px DejaVu Sans, Verdana, sans-serif"; pen.lineJoin = "round";
  const [low, high] = data.errors.map(Math.log10), colors = theme();
  areas().forEach(([left, right, top, bottom], i) => {
    const run = runs[i], from = run.times[0], to = run.times[run.times.length - 1];
    const x = (t) => left + (right - left) * (t - from) / (to - from), y = (e) => bottom - (bottom - top) * (Math.log10(e) - low) / (high - low);
    if (run.trained !== null && run.trained < to) {
      pen.fillStyle = colors.shade; pen.fillRect(left, top, x(run.trained) - left, bottom - top);
      pen.textAlign = "right"; pen.fillStyle = colors.muted; pen.fillText("training", x(run.trained) - 6, 12);
      pen.textAlign = "left"; pen.fillStyle = colors.forecast; pen.fillText("forecast", x(run.trained) + 6, 12);
    }
    decades(pen, colors, low, high, y, left, right, i === 0, run);
    run.error.forEach((error, b) => {
      if (!run.known) return;
      for (const [part, alpha] of [[to, 0.25], [state.time, 1]]) {
        pen.globalAlpha = alpha; pen.strokeStyle = colors.bodies[run.colors[b]]; pen.lineWidth = 2; pen.beginPath();
        let down = false;
        for (let k = 0; k < error.length && run.times[k] <= part; k++) if (error[k] > 0) {
          const yy = Math.min(Math.max(y(error[k]), top), bottom);
          if (down) pen.lineTo(x(run.times[k]), yy); else pen.moveTo(x(run.times[k]), yy);
          down = true;
        }
        pen.stroke(); pen.globalAlpha = 1;
      }
    });
    pen.strokeStyle = colors.muted; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(left, top); pen.lineTo(left, bottom); pen.lineTo(right, bottom); pen.stroke();
    pen.strokeStyle = colors.forecast; pen.lineWidth = 1.5; pen.beginPath(); pen.moveTo(x(Math.min(state.time, to)), top); pen.lineTo(x(Math.min(state.time, to)), bottom); pen.stroke();
    pen.fillStyle = colors.muted; pen.textAlign = "left"; pen.fillText(from.toFixed(data.digits ? 1 : 0), left, 96); pen.textAlign = "right"; pen.fillText(to.toFixed(data.digits ? 1 : 0), right, 96);
    pen.textAlign = "center"; pen.fillStyle = colors.ink; pen.fillText(run.timeLabel, (left + right) / 2, 97);
  });
}

function decades(pen, colors, low, high, y, left, right, words, run) {
  pen.textAlign = "right"; pen.fillStyle = colors.muted; pen.strokeStyle = colors.faint; pen.lineWidth = 0.7;
  const every = Math.max(1, Math.ceil((high - low) / 3.5));
  for (let d = Math.ceil(low); d <= Math.floor(high) && run.known; d++) if (d % every === 0) {
    pen.beginPath(); pen.moveTo(left, y(10 ** d)); pen.lineTo(right, y(10 ** d)); pen.stroke();
    if (words) pen.fillText(`1e${d}`, left - 5, y(10 ** d) + 4);
  }
  if (words && run.known) { pen.textAlign = "left"; pen.fillStyle = colors.ink; pen.fillText(data.errorLabel, left + 6 - 62, 12); }
}

function setTime(time) { state.time = Math.min(Math.max(time, first), last); redraw(); }
function toggle(name) { state.shown[name] = !state.shown[name]; $(`show-${name}`).setAttribute("aria-pressed", state.shown[name]); redraw(); }

let before = 0;
function tick(now) {
  if (!state.playing) return;
  const step = (last - first) / 12 * state.speed * Math.min(now - before, 100) / 1000; // the whole in twelve seconds
  before = now;
  if (state.time + step >= last) { state.playing = false; setTime(last); return; }
  setTime(state.time + step);
  requestAnimationFrame(tick);
}
function play() {
  state.playing = !state.playing;
  if (state.playing) { if (state.time >= last) state.time = first; before = performance.now(); requestAnimationFrame(tick); }
  redraw();
}

function dress() {
  for (const name of ["background", "top", "ink", "muted", "faint", "shade", "forecast"]) document.documentElement.style.setProperty(`--${name}`, theme()[name]);
  const list = $("legend"); list.replaceChildren();
  const entry = (text, kind, color) => { const item = document.createElement("li"), sign = document.createElement("i"); sign.className = kind; if (color) sign.style.background = color; item.append(sign, text); list.append(item); };
  for (const [name, color] of data.bodies) entry(name, "line", theme().bodies[color]);
  entry("forecast", "dash", "");
  if (data.hasBands) entry("±1σ, ±2σ", "band", "");
  if (data.hasStrands) entry("ensemble", "thin", "");
  if (runs.some((run) => run.trained !== null && run.trained < run.times[run.times.length - 1])) entry("end of training", "ring", "");
  redraw();
}

function picture() { // the scene as it is, without the words around it
  paint();
  $("scene").toBlob((blob) => { const link = document.createElement("a"); link.href = URL.createObjectURL(blob); link.download = "physid.png"; link.click(); });
}

function choices(id, values, chosen, then) {
  for (const [value, text] of values) { const option = document.createElement("option"); option.value = value; option.textContent = text; $(id).append(option); }
  $(id).value = chosen;
  $(id).addEventListener("change", () => { then(Number($(id).value)); redraw(); });
}
const nextOf = (id, by) => { const box = $(id); box.selectedIndex = Math.min(Math.max(box.selectedIndex + by, 0), box.options.length - 1); box.dispatchEvent(new Event("change")); };

const KEYS = { " ": play, ArrowRight: () => setTime(state.time + (last - first) / 100), ArrowLeft: () => setTime(state.time - (last - first) / 100), Home: () => setTime(first), End: () => setTime(last),
  "+": () => nextOf("speed", 1), "-": () => nextOf("speed", -1), t: () => toggle("truth"), f: () => toggle("forecast"), b: () => toggle("bands"), r: () => toggle("trails"),
  w: () => { const box = $("window"); box.selectedIndex = (box.selectedIndex + 1) % box.options.length; box.dispatchEvent(new Event("change")); },
  d: () => $("theme").click(), s: picture, "0": () => { camera.reset(); redraw(); } };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT" || !KEYS[event.key]) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return; // space presses the button that has the focus
  event.preventDefault(); KEYS[event.key]();
});

function pointers() { // one finger turns, two move and zoom
  const canvas = $("scene"), down = new Map();
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); down.set(event.pointerId, [event.clientX, event.clientY]); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => down.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId)) return;
    const old = down.get(event.pointerId), here = [event.clientX, event.clientY], move = [here[0] - old[0], here[1] - old[1]];
    if (down.size === 1 && !event.shiftKey) { camera.azimuth -= 0.35 * move[0]; camera.elevation = Math.min(Math.max(camera.elevation + 0.35 * move[1], -89), 89); }
    else {
      const others = [...down.entries()].filter(([id]) => id !== event.pointerId).map(([, p]) => p), [right, up] = camera.axes(), k = camera.base[1] * camera.zoom * 0.54 / canvas.clientHeight / Math.max(down.size, 1);
      camera.pan = add(add(camera.pan, right, -k * move[0]), up, k * move[1]);
      if (others.length) { const [o] = others, ratio = Math.hypot(old[0] - o[0], old[1] - o[1]) / Math.max(Math.hypot(here[0] - o[0], here[1] - o[1]), 1); camera.zoom = Math.min(Math.max(camera.zoom * ratio, 0.05), 8); }
    }
    down.set(event.pointerId, here); redraw();
  });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); camera.zoom = Math.min(Math.max(camera.zoom * Math.exp(0.0012 * event.deltaY), 0.05), 8); redraw(); }, { passive: false });
  canvas.addEventListener("dblclick", () => { camera.reset(); redraw(); });
  const seek = (event) => areas().forEach(([left, right], i) => { if (event.offsetX >= left - 8 && event.offsetX <= right + 8) { const t = runs[i].times; setTime(t[0] + (t[t.length - 1] - t[0]) * (event.offsetX - left) / (right - left)); } });
  $("strips").addEventListener("pointerdown", (event) => { $("strips").setPointerCapture(event.pointerId); seek(event); });
  $("strips").addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
}

document.title = data.title; $("title").textContent = data.title; $("subtitle").textContent = data.subtitle;
for (const name of ["truth", "forecast", "bands", "trails"]) {
  const button = document.createElement("button");
  button.id = `show-${name}`; button.textContent = name; button.setAttribute("aria-pressed", true); button.title = `show or hide (${name === "trails" ? "r" : name[0]})`;
  button.addEventListener("click", () => toggle(name)); $("toggles").append(button, " ");
}
choices("speed", [[0.25, "¼"], [0.5, "½"], [1, "1"], [2, "2"], [4, "4"]], 1, (value) => { state.speed = value; });
choices("window", [[0, "all"], [0.5, "½"], [0.25, "¼"], [0.1, "⅒"]], 0, (value) => { state.shown.window = value * (last - first); });
$("play").addEventListener("click", play);
$("slider").addEventListener("input", () => { state.playing = false; setTime(first + (last - first) * $("slider").value / 1000); });
$("theme").addEventListener("click", () => { state.theme = state.theme === "dark" ? "light" : "dark"; dress(); });
$("shot").addEventListener("click", picture);
$("none").hidden = Boolean(scene.gl);
if (scene.gl) pointers();
new ResizeObserver(redraw).observe($("main"));
dress();
window.physid = { state, setTime, redraw, ready: true };
