// The scene: tubes made from centre lines, whose vertices carry their time, so that a time is shown without remaking any.

const TAU = 2 * Math.PI, ANGLE = Math.PI / 6;

const VERTEX = `#version 300 es
layout(location=0) in vec3 place; layout(location=1) in vec3 normal; layout(location=2) in vec2 when;
uniform mat4 view; uniform vec3 shift; uniform float grow;
out vec3 n; out vec3 at; out vec2 w;
void main() { at = place * grow + shift; n = normal; w = when; gl_Position = view * vec4(at, 1.0); }`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; in vec3 at; in vec2 w;
uniform vec4 color; uniform vec3 eye; uniform vec2 span; uniform vec2 dash; uniform float lit;
out vec4 result;
void main() {
  if (w.x < span.x || w.x > span.y) discard;
  if (dash.x > 0.0 && mod(w.y, dash.x + dash.y) > dash.x) discard;
  vec3 ahead = normalize(eye - at), face = normalize(gl_FrontFacing ? n : -n);
  float bright = max(dot(face, ahead), 0.0);
  vec3 seen = color.rgb * (0.30 + 0.76 * bright) + 0.30 * pow(bright, 22.0) * 0.6;
  result = vec4(mix(color.rgb, seen, lit), 1.0) * color.a;
}`;

const add = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => { const s = Math.hypot(...a) || 1; return [a[0] / s, a[1] / s, a[2] / s]; };
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);
const mixed = (a, b, k) => { const x = rgb(a), y = rgb(b); return x.map((v, i) => v + k * (y[i] - v)); };

// The points of a path [T][3] between two times, evenly spaced, each with its time and arc length.
function evenly(path, times, from, to, step) {
  const line = [];
  for (let i = 0; i < times.length; i++)
    if (times[i] >= from - 1e-12 && times[i] <= to + 1e-12 && Number.isFinite(path[3 * i]))
      line.push([path[3 * i], path[3 * i + 1], path[3 * i + 2], times[i], i]);
  const found = [];
  let length = 0, next = 0;
  for (let k = 0; k < line.length; k++) {
    const here = line[k], before = line[Math.max(k - 1, 0)];
    const reach = Math.hypot(here[0] - before[0], here[1] - before[1], here[2] - before[2]);
    while (reach > 0 && length + reach >= next) {
      const f = (next - length) / reach;
      found.push([...[0, 1, 2, 3, 4].map((j) => before[j] + f * (here[j] - before[j])), next]);
      next += step;
    }
    length += reach;
    if (k === line.length - 1 && found.length) found.push([...here, length]);
  }
  return found;
}

// A tube of radius(point) around points [x, y, z, time, place, length]: interleaved place, normal, time, length; triangles.
function tube(points, radius, sides) {
  const rings = points.length;
  if (rings < 2) return null;
  const vertices = new Float32Array(rings * sides * 8), faces = new Uint32Array((rings - 1) * sides * 6);
  let normal = null, v = 0, f = 0;
  for (let i = 0; i < rings; i++) {
    const a = points[Math.max(i - 1, 0)], b = points[Math.min(i + 1, rings - 1)], p = points[i];
    const along = unit(add(b, a, -1));
    if (!normal) normal = cross(along, Math.abs(along[2]) < 0.8 ? [0, 0, 1] : [1, 0, 0]);
    normal = unit(add(normal, along, -dot(normal, along)));
    const other = cross(along, normal), r = radius(p);
    for (let k = 0; k < sides; k++) {
      const c = Math.cos(TAU * k / sides), s = Math.sin(TAU * k / sides);
      const out = add([c * normal[0], c * normal[1], c * normal[2]], other, s);
      vertices.set([...add(p, out, r), ...out, p[3], p[5]], v);
      v += 8;
      if (i + 1 < rings) {
        const x = i * sides + k, y = i * sides + (k + 1) % sides;
        faces.set([x, y, x + sides, y, y + sides, x + sides], f);
        f += 6;
      }
    }
  }
  return { vertices, faces };
}

function ball(rings) {
  const vertices = [], faces = [], around = 2 * rings;
  for (let i = 0; i <= rings; i++)
    for (let k = 0; k < around; k++) {
      const a = Math.PI * i / rings, b = TAU * k / around;
      const p = [Math.sin(a) * Math.cos(b), Math.sin(a) * Math.sin(b), -Math.cos(a)];
      vertices.push(...p, ...p, 0, 0);
      const x = i * around + k, y = i * around + (k + 1) % around;
      if (i < rings) faces.push(x, y, x + around, y, y + around, x + around);
    }
  return { vertices: new Float32Array(vertices), faces: new Uint32Array(faces) };
}

function ring(center, axis, radius, thin) {
  const one = unit(cross(axis, Math.abs(axis[2]) < 0.8 ? [0, 0, 1] : [1, 0, 0])), two = cross(unit(axis), one);
  const points = [];
  for (let k = 0; k <= 48; k++) points.push([...add(add(center, one, radius * Math.cos(TAU * k / 48)), two, radius * Math.sin(TAU * k / 48)), 0, 0, 0]);
  return tube(points, () => thin, 8);
}

class Camera {
  constructor(azimuth, elevation, distance) { this.first = [azimuth, elevation, distance]; this.reset(); }
  reset() { [this.azimuth, this.elevation] = this.first; this.zoom = 1; this.pan = [0, 0, 0]; }
  axes() {
    const a = this.azimuth * Math.PI / 180, e = this.elevation * Math.PI / 180;
    const ahead = [-Math.cos(e) * Math.cos(a), -Math.cos(e) * Math.sin(a), -Math.sin(e)];
    const right = [-Math.sin(a), Math.cos(a), 0];
    return [right, cross(right, ahead), ahead];
  }
  // Where it must stand so that the points just fill the picture; found anew for every shape of it.
  fit(points, aspect) {
    const [right, up, ahead] = this.axes(), tan = Math.tan(ANGLE / 2);
    let shift = [0, 0], distance = 2.1; // the picture is shifted, not the point it turns about, the middle of the tracks
    for (let turn = 0; turn < 25; turn++) {
      let low = [9, 9], high = [-9, -9];
      for (const p of points) {
        const depth = Math.max(dot(p, ahead) + distance, 1e-6) * tan, x = dot(p, right) / (depth * aspect), y = dot(p, up) / depth;
        low = [Math.min(low[0], x), Math.min(low[1], y)]; high = [Math.max(high[0], x), Math.max(high[1], y)];
      }
      shift = [-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2];
      const size = Math.max((high[0] - low[0]) / 1.84, (high[1] - low[1]) / 1.66);
      distance = Math.min(Math.max(distance * (0.5 + 0.5 * size), 0.3), 50);
    }
    return [shift, this.first[2] || distance];
  }
  matrix(points, aspect) {
    if (this.aspect !== aspect || !this.base) { // fitted from where it first stood, not while it is turned
      const turned = [this.azimuth, this.elevation];
      [this.azimuth, this.elevation] = this.first; this.base = this.fit(points, aspect); [this.azimuth, this.elevation] = turned;
      this.aspect = aspect;
    }
    const [right, up, ahead] = this.axes(), far = this.base[1] * this.zoom, shift = this.base[0];
    const eye = add(this.pan, ahead, -far), near = 0.02 * far, end = 8 * far + 4, f = 1 / Math.tan(ANGLE / 2);
    const rows = [right, up, ahead.map((x) => -x)].map((a) => [...a, -dot(a, eye)]);
    const z = (end + near) / (near - end), w = 2 * end * near / (near - end), m = new Float32Array(16);
    for (let c = 0; c < 4; c++) {
      m[4 * c] = f / aspect * rows[0][c] - shift[0] * rows[2][c]; m[4 * c + 1] = f * rows[1][c] - shift[1] * rows[2][c];
      m[4 * c + 2] = z * rows[2][c] + (c === 3 ? w : 0); m[4 * c + 3] = -rows[2][c];
    }
    return { m, eye };
  }
}

class Scene {
  constructor(canvas, runs, camera) {
    this.gl = canvas.getContext("webgl2", { antialias: true, stencil: true, alpha: true, premultipliedAlpha: true });
    if (!this.gl) return;
    this.canvas = canvas; this.runs = runs; this.camera = camera;
    this.program = this.compile();
    this.places = {};
    for (const name of ["view", "shift", "grow", "color", "eye", "span", "dash", "lit"])
      this.places[name] = this.gl.getUniformLocation(this.program, name);
    this.ball = this.upload(ball(24));
    this.points = runs.flatMap((run) => run.samples);
    this.meshes = runs.map((run) => this.build(run));
  }
  compile() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text); gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    return program;
  }
  upload(mesh) {
    if (!mesh) return null;
    const gl = this.gl, array = gl.createVertexArray();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, mesh.vertices, gl.STATIC_DRAW);
    [[0, 3, 0], [1, 3, 12], [2, 2, 24]].forEach(([at, size, skip]) => { gl.enableVertexAttribArray(at); gl.vertexAttribPointer(at, size, gl.FLOAT, false, 32, skip); });
    if (mesh.faces) { gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer()); gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.faces, gl.STATIC_DRAW); }
    gl.bindVertexArray(null);
    return { array, count: mesh.faces ? mesh.faces.length : mesh.vertices.length / 8, lines: !mesh.faces };
  }
  build(run) {
    const made = { truth: [], dashes: [], bands: [[], []], strands: [], rings: [], floor: [] }, L = run.look, first = run.times[0], last = run.times[run.times.length - 1];
    const trained = run.trained === null ? last : Math.min(run.trained, last);
    for (let b = 0; b < run.names.length; b++) {
      for (const [thin, from, to] of [[true, first, trained], [false, trained, last]]) {
        const r = L.tube * (thin ? L.thin : 1);
        made.truth.push({ b, thin, mesh: this.upload(tube(evenly(run.truth[b], run.times, from, to, L.step), () => r, 12)) });
        made.dashes.push({ thin, mesh: this.upload(tube(evenly(run.forecast[b], run.times, from, to, L.step / 2), () => 1.2 * r, 10)) });
      }
      const end = run.fold[b] === null ? last : run.fold[b], sigma = run.sigma[b];
      if (sigma) {
        const line = evenly(run.forecast[b], run.times, first, end, 2 * L.step);
        const width = (p) => { const i = Math.min(Math.floor(p[4]), sigma.length - 2); return sigma[i] + (p[4] - i) * (sigma[i + 1] - sigma[i]); };
        [2, 1].forEach((reach, k) => made.bands[k].push(this.upload(tube(line, (p) => reach * width(p), 20))));
      }
      if (run.fold[b] !== null)
        for (const strand of run.strands) made.strands.push(this.upload(tube(evenly(strand[b], run.strandTimes, end, last, 2 * L.step), () => 0.45 * L.tube, 5)));
      if (trained < last) {
        const tail = evenly(run.known ? run.truth[b] : run.forecast[b], run.times, first, trained, L.step);
        if (tail.length > 2) made.rings.push(this.upload(ring(tail[tail.length - 1].slice(0, 3), unit(add(tail[tail.length - 1], tail[tail.length - 3], -1)), 3.4 * L.tube, 0.85 * L.tube)));
      }
    }
    for (const line of run.floor) {
      const vertices = new Float32Array(line.length / 3 * 8);
      for (let i = 0; i < line.length / 3; i++) vertices.set([line[3 * i], line[3 * i + 1], line[3 * i + 2], 0, 0, 1, 0, 0], 8 * i);
      made.floor.push(this.upload({ vertices }));
    }
    return made;
  }
  draw(mesh, color, opacity, more = {}) {
    if (!mesh) return;
    const gl = this.gl, u = this.places;
    gl.uniform4f(u.color, ...color, opacity);
    gl.uniform3f(u.shift, ...(more.at || [0, 0, 0]));
    gl.uniform1f(u.grow, more.grow || 1);
    gl.uniform2f(u.span, ...(more.span || [-1e30, 1e30]));
    gl.uniform2f(u.dash, ...(more.dash || [0, 0]));
    gl.uniform1f(u.lit, more.flat || mesh.lines ? 0 : 1);
    gl.bindVertexArray(mesh.array);
    if (mesh.lines) gl.drawArrays(gl.LINE_STRIP, 0, mesh.count); else gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
  }
  render(time, shown, theme, boxes) {
    const gl = this.gl;
    if (!gl) return;
    gl.useProgram(this.program);
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT | gl.STENCIL_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST); gl.enable(gl.SCISSOR_TEST); gl.depthFunc(gl.LEQUAL);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    boxes.forEach((box, i) => {
      gl.viewport(...box); gl.scissor(...box);
      const view = this.camera.matrix(this.points, box[2] / box[3]);
      gl.uniformMatrix4fv(this.places.view, false, view.m);
      gl.uniform3f(this.places.eye, ...view.eye);
      this.run(this.runs[i], this.meshes[i], time, shown, theme);
    });
  }
  run(run, made, time, shown, theme) {
    const gl = this.gl, L = run.look, orange = rgb(theme.forecast), now = Math.min(time, run.times[run.times.length - 1]);
    const span = [shown.window ? now - shown.window : -1e30, now], pale = mixed(theme.forecast, theme.background, 0.45);
    gl.disable(gl.BLEND); gl.depthMask(true);
    for (const line of made.floor) this.draw(line, rgb(theme.faint), 1);
    if (shown.truth && shown.trails)
      for (const part of made.truth) this.draw(part.mesh, part.thin ? mixed(theme.bodies[run.colors[part.b]], theme.background, L.pale) : rgb(theme.bodies[run.colors[part.b]]), 1, { span });
    if (shown.forecast && shown.trails)
      for (const part of made.dashes) this.draw(part.mesh, part.thin ? pale : orange, 1, { span, dash: L.dash });
    if (shown.trails && run.trained !== null && now >= run.trained && span[0] <= run.trained) for (const mesh of made.rings) this.draw(mesh, rgb(theme.ink), 1);
    if (run.center) this.draw(this.ball, mixed(theme.ink, theme.background, 0.3), 1, { at: run.center, grow: L.sphere });
    this.bodies(run, now, shown, theme);
    if (shown.bands && shown.trails) this.bands(made, span, orange);
  }
  bodies(run, now, shown, theme) {
    const gl = this.gl, orange = rgb(theme.forecast);
    for (let b = 0; b < run.names.length; b++) {
      const here = at(run.truth[b], run.times, now), there = at(run.forecast[b], run.times, now), size = run.sizes[b];
      if (shown.truth && here) this.draw(this.ball, rgb(theme.bodies[run.colors[b]]), 1, { at: here, grow: size });
      if (shown.forecast && there) {
        gl.enable(gl.BLEND);
        this.draw(this.ball, orange, shown.truth && here ? 0.62 : 1, { at: there, grow: 0.93 * size });
        gl.disable(gl.BLEND);
      }
      if (shown.truth && shown.forecast && here && there && Math.hypot(...add(here, there, -1)) > size) {
        const link = tube([[...here, 0, 0, 0], [...there, 0, 0, 0]], () => 0.0007, 4);
        const mesh = this.upload(link);
        this.draw(mesh, rgb(theme.ink), 1, { flat: true });
        gl.deleteVertexArray(mesh.array);
      }
    }
  }
  // Bands are one tone: the stencil lets every pixel be painted once for each of the two widths.
  bands(made, span, orange) {
    const gl = this.gl;
    gl.enable(gl.BLEND); gl.depthMask(false); gl.enable(gl.STENCIL_TEST);
    gl.stencilOp(gl.KEEP, gl.KEEP, gl.REPLACE);
    made.bands.forEach((meshes, k) => {
      gl.stencilFunc(gl.NOTEQUAL, k + 1, 0xff);
      for (const mesh of meshes) this.draw(mesh, orange, k ? 0.16 : 0.11, { span, flat: true });
    });
    gl.disable(gl.STENCIL_TEST);
    for (const mesh of made.strands) this.draw(mesh, orange, 0.38, { span, flat: true });
    gl.depthMask(true); gl.disable(gl.BLEND);
  }
}

// The point of a path [T][3] at a time; null where it is not known.
function at(path, times, time) {
  let low = 0, high = times.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (times[middle] <= time) low = middle; else high = middle; }
  const f = Math.min(Math.max((time - times[low]) / (times[high] - times[low]), 0), 1);
  const point = [0, 1, 2].map((j) => path[3 * low + j] + f * (path[3 * high + j] - path[3 * low + j]));
  return point.every(Number.isFinite) ? point : null;
}
