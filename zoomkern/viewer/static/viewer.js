// The page of `zoomkern view`: an image zoomed by OpenSeadragon, and above it one canvas of attention and boxes.
"use strict";

const PATCH = "#4cc9f0", TILE = "#ffd166", HALO = "rgba(10, 14, 20, 0.75)";
const LEAST_BOX = 9; // side in pixels of the window below which a box is drawn larger than it is, to be seen and hit
const NUMBERED = 26; // and from which it has its number inside
const INFERNO = ["000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4"]
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

const byId = (id) => document.getElementById(id);
const count = (number) => Math.round(number).toLocaleString("en");

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function percent(value) {
  if (value === null) return "unknown";
  const hundred = 100 * value;
  if (hundred === 0) return "0 %";
  if (hundred < 0.001) return `${hundred.toExponential(1)} %`;
  return `${Number(hundred.toPrecision(hundred < 1 ? 2 : 3))} %`;
}

// Colour and opacity of a probability: as zoomkern's pictures have them, transparent where there is no attention.
function shade(part) {
  const at = Math.min(part, 1) * (INFERNO.length - 1), low = Math.min(Math.floor(at), INFERNO.length - 2);
  const colour = INFERNO[low].map((value, i) => value + (at - low) * (INFERNO[low + 1][i] - value));
  return [...colour, 255 * Math.min(1.4 * part, 1)];
}

function shades(curve) {
  return Array.from({length: 1024}, (_, i) => shade((i / 1023) ** curve));
}

function paint(canvas, values, end, table) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < values.length; i++) {
    image.data.set(table[Math.min(1023, Math.max(0, Math.round(1023 * values[i] / end)))], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

class Stage {
  constructor(view, values) {
    Object.assign(this, view);
    const cells = this.rows * this.columns;
    this.grids = this.boxes.map((box, i) => ({
      box, values: values.subarray(i * cells, (i + 1) * cells),
      canvas: make("canvas", {width: this.columns, height: this.rows}),
    }));
    this.shown = true;
    this.opacity = 0.7;
  }

  paint(curve) {
    const table = shades(curve);
    for (const grid of this.grids) paint(grid.canvas, grid.values, this.end, table);
    const ramp = Float32Array.from({length: this.ramp.width}, (_, i) => i / (this.ramp.width - 1));
    const opaque = shades(curve).map(([r, g, b]) => [r, g, b, 255]);
    paint(this.ramp, ramp, 1, opaque);
    [0, 0.5, 1].forEach((at, i) => { this.ticks[i].textContent = percent(this.end * at ** (1 / curve)); });
    this.kind.textContent = `Probability of a cell, ${curve === 1 ? "linear" : "square-root"} scale; uniform: ${percent(this.uniform)}`;
    this.ramp.setAttribute("aria-label", `Colours from 0 to ${percent(this.end)}. ${this.kind.textContent}`);
  }

  // The probability of the cell that a place lies in.
  at(x, y) {
    for (const {box: [left, top, width, height], values} of this.grids) {
      const column = Math.floor((x - left) * this.columns / width), row = Math.floor((y - top) * this.rows / height);
      if (column >= 0 && row >= 0 && column < this.columns && row < this.rows) return values[row * this.columns + column];
    }
    return null;
  }

  controls(redraw) {
    const shown = make("input", {type: "checkbox", checked: true});
    const opacity = make("input", {type: "range", min: 0, max: 100, value: 100 * this.opacity});
    opacity.setAttribute("aria-label", `Opacity of the ${this.name.toLowerCase()}`);
    shown.addEventListener("change", () => { this.shown = shown.checked; redraw(); });
    opacity.addEventListener("input", () => { this.opacity = opacity.value / 100; redraw(); });
    this.ramp = make("canvas", {width: 256, height: 1});
    this.ramp.setAttribute("role", "img");
    this.ticks = [0, 1, 2].map(() => make("span"));
    this.kind = make("div", {className: "kind"});
    return make("div", {className: "stage"},
      make("label", {className: "line"}, shown, ` ${this.name}`),
      make("label", {className: "line"}, "Opacity ", opacity),
      this.ramp,
      make("div", {className: "ticks"}, ...this.ticks), this.kind);
  }
}

class Page {
  constructor(view, stages) {
    this.view = view;
    this.stages = stages;
    this.patches = view.look ? view.look.patches : [];
    this.tiles = view.look ? view.look.tiles : [];
    this.chosen = null;
    this.facts();
    this.open();
    this.panel();
    this.keys();
  }

  facts() {
    const {name, width, height, channels, type, mpp, stretch} = this.view;
    document.title = `${name} – zoomkern`;
    byId("name").textContent = name;
    const facts = [`${count(width)} × ${count(height)} pixels`, `${channels} × ${type}`];
    if (mpp !== null) facts.push(`${Number(mpp.toPrecision(4))} µm per pixel`);
    if (stretch !== null) {
      const ranges = [...new Set(stretch.map((pair) => pair.map((value) => Number(value.toPrecision(4))).join(" to ")))];
      facts.push(`shown from ${ranges.join(", ")}`);
    }
    byId("facts").textContent = facts.join(" · ");
  }

  open() {
    const {width, height, tile, least, most} = this.view;
    this.osd = OpenSeadragon({
      element: byId("view"), drawer: "canvas", showNavigationControl: false, showNavigator: true,
      navigatorPosition: "TOP_RIGHT", navigatorSizeRatio: 0.16, animationTime: 0.4, maxZoomPixelRatio: 16,
      visibilityRatio: 0.5, minZoomImageRatio: 0.5, gestureSettingsMouse: {clickToZoom: false, dblClickToZoom: true},
      gestureSettingsTouch: {clickToZoom: false, pinchRotate: false},
      tileSources: {
        width, height, tileWidth: tile, tileHeight: tile, tileOverlap: 0, minLevel: least, maxLevel: most,
        getTileUrl: (level, column, row) => `tiles/${level}/${column}_${row}`,
      },
    });
    this.canvas = make("canvas", {className: "overlay"});
    this.osd.canvas.append(this.canvas);
    this.osd.canvas.setAttribute("role", "application");
    this.osd.canvas.setAttribute("aria-label",
      `${this.view.name}. Arrow keys move, plus and minus zoom, 0 shows the whole image, n and p go through the patches.`);
    this.osd.addHandler("update-viewport", () => this.draw());
    this.osd.addHandler("tile-load-failed", () => this.trouble("A part of the image could not be read; the terminal says why."));
    this.osd.addHandler("canvas-click", (event) => { if (event.quick) this.click(event); });
    this.osd.addHandler("canvas-key", (event) => {
      if (["r", "R", "f"].includes(event.originalEvent.key)) event.preventDefaultAction = true; // the boxes do not turn
    });
    this.osd.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.osd.canvas.addEventListener("pointerleave", () => { byId("place").textContent = ""; });
    byId("in").addEventListener("click", () => this.zoom(1.5));
    byId("out").addEventListener("click", () => this.zoom(1 / 1.5));
    byId("home").addEventListener("click", () => this.osd.viewport.goHome());
  }

  zoom(factor) {
    this.osd.viewport.zoomBy(factor);
    this.osd.viewport.applyConstraints();
  }

  trouble(text) {
    byId("trouble").textContent = text;
    byId("trouble").hidden = false;
  }

  redraw() {
    this.osd.forceRedraw();
  }

  panel() {
    const look = this.view.look;
    byId("nothing").hidden = look !== null;
    if (look === null) return;
    byId("summary").hidden = !look.predicted;
    byId("predicted").textContent = look.predicted;
    look.classes.forEach((name, i) => byId("classes").append(make("li", {},
      make("span", {}, name), make("span", {}, percent(look.probability[i])),
      make("meter", {value: look.probability[i] || 0, ariaLabel: `Probability of ${name}`}))));
    byId("attention").hidden = !this.stages.length;
    for (const stage of this.stages) byId("stages").append(stage.controls(() => this.redraw()));
    const paint = () => {
      for (const stage of this.stages) stage.paint(Number(byId("curve").value));
      this.redraw();
    };
    byId("curve").addEventListener("change", paint);
    paint();
    byId("drawn").hidden = !this.patches.length;
    byId("count").textContent = this.patches.length + (this.tiles.length ? ` in ${this.tiles.length} tiles` : "");
    byId("boxes").addEventListener("change", () => this.redraw());
    this.buttons = this.patches.map((patch, i) => {
      const button = make("button", {type: "button", ariaPressed: "false"},
        make("b", {}, String(i + 1)), make("span", {}, percent(patch.probability)), make("span", {}, `w ${weight(patch.weight)}`));
      button.setAttribute("aria-label",
        `Patch ${i + 1}: probability ${percent(patch.probability)}, weight ${weight(patch.weight)}`);
      button.addEventListener("click", () => this.choose(i));
      byId("patches").append(make("li", {}, button));
      return button;
    });
  }

  keys() {
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
      const step = {n: 1, p: -1}[event.key];
      if (step && this.patches.length) {
        const from = this.chosen === null ? (step > 0 ? -1 : 0) : this.chosen;
        this.choose((from + step + this.patches.length) % this.patches.length);
      }
      if (event.key === "Escape") this.choose(null);
    });
  }

  // Tells of a patch and zooms to it; null: of none.
  choose(index) {
    this.chosen = index;
    if (!this.buttons) return;
    this.buttons.forEach((button, i) => { button.ariaPressed = String(i === index); });
    byId("chosen").replaceChildren();
    if (index !== null) {
      const patch = this.patches[index], [x, y, width, height] = patch.box;
      const rows = [
        ["Probability", percent(patch.probability)], ["Weight", weight(patch.weight)],
        ["Place", `x ${count(x)}, y ${count(y)}`], ["Covers", `${count(width)} × ${count(height)} pixels`],
      ];
      if (patch.tile !== null && this.tiles[patch.tile]) {
        rows.push(["Tile", `${patch.tile + 1}, ${percent(this.tiles[patch.tile].probability)}`]);
      }
      byId("chosen").append(make("b", {}, `Patch ${index + 1}`),
        make("dl", {}, ...rows.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)])));
      this.buttons[index].scrollIntoView({block: "nearest"});
      const item = this.osd.world.getItemAt(0);
      if (item) this.osd.viewport.fitBoundsWithConstraints(item.imageToViewportRectangle(x - width, y - height, 3 * width, 3 * height));
    }
    this.redraw();
  }

  // Image pixels to those of the window: scale and offset.
  transform() {
    const item = this.osd.world.getItemAt(0);
    if (!item) return null;
    const start = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const end = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(this.view.width, this.view.height));
    return {scale: (end.x - start.x) / this.view.width, x: start.x, y: start.y};
  }

  // The box as it is drawn: [left, top, width, height] in the window.
  drawn([x, y, width, height], at) {
    const wide = Math.max(width * at.scale, LEAST_BOX), high = Math.max(height * at.scale, LEAST_BOX);
    return [at.x + (x + width / 2) * at.scale - wide / 2, at.y + (y + height / 2) * at.scale - high / 2, wide, high];
  }

  draw() {
    const at = this.transform();
    if (!at) return;
    const density = window.devicePixelRatio || 1, {clientWidth: width, clientHeight: height} = this.canvas;
    if (this.canvas.width !== Math.round(width * density) || this.canvas.height !== Math.round(height * density)) {
      this.canvas.width = Math.round(width * density);
      this.canvas.height = Math.round(height * density);
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    for (const stage of this.stages) {
      if (!stage.shown) continue;
      context.globalAlpha = stage.opacity;
      for (const {box: [x, y, wide, high], canvas} of stage.grids) {
        context.drawImage(canvas, at.x + x * at.scale, at.y + y * at.scale, wide * at.scale, high * at.scale);
      }
    }
    context.globalAlpha = 1;
    if (byId("boxes").checked) {
      for (const tile of this.tiles) outline(context, this.drawn(tile.box, at), TILE, 1.5);
      this.patches.forEach((patch, i) => {
        if (i !== this.chosen) this.box(context, i, at);
      });
      if (this.chosen !== null) this.box(context, this.chosen, at);
    }
    this.scale(at.scale);
  }

  box(context, index, at) {
    const box = this.drawn(this.patches[index].box, at), chosen = index === this.chosen;
    outline(context, box, chosen ? "#ffffff" : PATCH, chosen ? 3 : 2);
    if (box[2] >= NUMBERED && box[3] >= NUMBERED) {
      context.font = "600 13px system-ui, sans-serif";
      const text = String(index + 1), wide = context.measureText(text).width + 8;
      context.fillStyle = HALO;
      context.fillRect(box[0], box[1], wide, 18);
      context.fillStyle = chosen ? "#ffffff" : PATCH;
      context.fillText(text, box[0] + 4, box[1] + 14);
    }
  }

  // A bar of a round length.
  scale(scale) {
    const mpp = this.view.mpp;
    byId("scale").hidden = mpp === null;
    if (mpp === null) return;
    const most = 140 * mpp / scale, power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].find((digit) => digit * power <= most) * power;
    const [unit, name] = length >= 1e6 ? [1e6, "m"] : length >= 1000 ? [1000, "mm"] : length >= 1 ? [1, "µm"] : [0.001, "nm"];
    byId("length").textContent = `${Number((length / unit).toPrecision(3))} ${name}`;
    byId("bar").style.width = `${length / mpp * scale}px`;
  }

  click(event) {
    const at = this.transform();
    if (!at || !byId("boxes").checked) return;
    const {x, y} = event.position;
    const hit = this.patches.map((patch, i) => [i, this.drawn(patch.box, at)])
      .filter(([, [left, top, wide, high]]) => x >= left && y >= top && x <= left + wide && y <= top + high);
    if (hit.length) this.choose(hit.reduce((best, one) => (one[1][2] * one[1][3] < best[1][2] * best[1][3] ? one : best))[0]);
  }

  hover(event) {
    const at = this.transform();
    if (!at) return;
    const frame = this.canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - frame.left - at.x) / at.scale), y = Math.floor((event.clientY - frame.top - at.y) / at.scale);
    const inside = x >= 0 && y >= 0 && x < this.view.width && y < this.view.height;
    const chances = this.stages.map((stage) => stage.at(x, y)).filter((chance) => chance !== null).map(percent);
    byId("place").textContent = inside ? [`x ${count(x)}, y ${count(y)}`, ...chances].join(" · ") : "";
  }
}

function weight(value) {
  return value === null ? "unknown" : String(Number(value.toPrecision(3)));
}

function outline(context, [x, y, width, height], colour, line) {
  context.lineWidth = line + 2;
  context.strokeStyle = HALO;
  context.strokeRect(x, y, width, height);
  context.lineWidth = line;
  context.strokeStyle = colour;
  context.strokeRect(x, y, width, height);
}

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} gave ${response.status}`);
  return response;
}

async function start() {
  try {
    const view = await (await fetched("view.json")).json();
    const stages = await Promise.all((view.look ? view.look.stages : []).map(async (stage, i) =>
      new Stage(stage, new Float32Array(await (await fetched(`attention/${i}`)).arrayBuffer()))));
    window.page = new Page(view, stages);
  } catch (error) {
    byId("trouble").textContent = `The viewer has ended, or cannot show this image: ${error.message}.`;
    byId("trouble").hidden = false;
  }
}

start();
