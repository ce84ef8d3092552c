// The anchor tree on a canvas, layered by height and time: each coin is a dot at its anchor. Only
// what is in view is asked for and drawn.
import { NodeTree } from "./node_tree.js";

const KINDS = ["anchor", "fresh", "late", "stray", "candidate"];
const POP_MS = 450;
// The room below for the numbers of the heights; and what is left free at an edge, for the largest
// dot. How far from its anchor a coin hangs at most, in lanes and in pixels.
const FOOT = 20;
const EDGE = 10;
const REACH = 0.8;
const REACH_MAX = 110;
const LANE_MAX = 130;
// Where frames come slower than this, nothing pops up for a while: what is new is drawn at once.
const SLOW_MS = 50;
const CALM_MS = 10000;
// After how long heights that could not be had are asked for again.
const AGAIN_MS = 3000;
// How long after the last news some more heights are asked for.
const WHOLE_MS = 1000;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

export class TreeView {
  #canvas; #ink; #tree; #colours; #frame = 0; #spots = []; #drag = null; #later = 0; #again = 0; #pinned = true; #middle = 0;
  #pops = false; #popping = false; #painted = 0; #calm = 0;
  #chosen = null; #started = false; #column = 92; #lane = 0; #wide = 0; #high = 0; #note; #said;

  constructor(canvas, tree = new NodeTree()) {
    this.#canvas = canvas;
    this.#tree = tree;
    this.#ink = canvas.getContext("2d");
    this.#note = document.createElement("div");
    this.#note.className = "note";
    this.#note.hidden = true;
    this.#said = document.createElement("p");
    this.#said.className = "unseen";
    this.#said.setAttribute("role", "status");
    canvas.after(this.#note, this.#said);
    this.#readColours();
    dark.addEventListener("change", () => { this.#readColours(); this.draw(); });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#grab(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#drop(event));
    canvas.addEventListener("pointercancel", () => { this.#drag = null; });
    canvas.addEventListener("pointerleave", () => { this.#note.hidden = true; });
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    this.refresh().catch(() => {});
  }

  get tree() { return this.#tree; }

  // What is news is drawn before more is asked for.
  async refresh() {
    clearTimeout(this.#later);
    try {
      if (await this.#show(false)) return;
      if (this.#tree.due) { await this.#show(true); return; }
    } catch (error) {
      this.#later = setTimeout(() => this.refresh().catch(() => {}), AGAIN_MS);
      throw error;
    }
    this.#later = setTimeout(() => this.#show(true).catch(() => {}), WHOLE_MS);
  }

  // A coin that the log tells of is drawn at once, from that alone.
  tell(told) { if (this.#started && this.#tree.add(told)) this.draw(); }

  async #show(whole) {
    const some = await this.#tree.refresh(whole);
    const asked = new URLSearchParams(location.search).get("last");
    if (!this.#started && asked) { this.#pinned = false; this.#middle = Number(asked) - this.#columns() / 2 + 1; }
    this.#started = true;
    if (this.#pinned) this.#toEnd();
    this.draw();
    return some;
  }

  // Moves the middle of the view to a height; at the end it follows the tip.
  moveTo(height) {
    const end = this.#end();
    this.#pinned = height >= end - 0.01;
    this.#middle = Math.max(Math.min(height, end), Math.min(end, this.#columns() / 2 - 0.8 + this.#tree.lowest));
    this.draw();
  }

  get middle() { return this.#middle; }

  #columns() { return this.#wide / this.#column; }
  #end() { return this.#tree.tip.height + 1.35 - this.#columns() / 2; }
  #toEnd() { this.#middle = this.#end(); }

  #readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = [...KINDS, "text", "soft", "line", "panel", "ground", "glow", "main-edge", "side-edge"];
    this.#colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.#colours.font = getComputedStyle(document.body).fontFamily;
  }

  #resize() {
    const { clientWidth, clientHeight } = this.#canvas;
    if (!clientWidth || !clientHeight) return;
    const scale = Math.min(2, devicePixelRatio || 1);
    [this.#wide, this.#high] = [clientWidth, clientHeight];
    this.#canvas.width = Math.round(clientWidth * scale);
    this.#canvas.height = Math.round(clientHeight * scale);
    this.#ink.setTransform(scale, 0, 0, scale, 0, 0);
    this.#column = Math.max(72, Math.min(150, clientWidth / 9));
    if (this.#pinned) this.#toEnd();
    this.#paint();
  }

  draw() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => { this.#frame = 0; this.#paint(); });
  }

  #x(height) { return this.#wide / 2 + (height - this.#middle) * this.#column; }
  #y(lane) { return (this.#high - FOOT) / 2 + lane * this.#lane; }

  // Puts the lanes as far apart as leaves room for the outermost in view and for its coins.
  #spread(first, last) {
    let outermost = 1;
    for (let height = first; height <= last; height++) {
      for (const anchor of this.#tree.row(height)) outermost = Math.max(outermost, Math.abs(anchor.lane || 0));
    }
    this.#lane = Math.min(LANE_MAX, ((this.#high - FOOT) / 2 - EDGE) / (outermost + REACH));
  }

  #paint() {
    if (!this.#started || !this.#wide) return;
    const first = Math.floor(this.#middle - this.#columns() / 2) - 1;
    const last = Math.ceil(this.#middle + this.#columns() / 2);
    this.#tree.load(first, last).then(
      (loaded) => { if (loaded) this.draw(); },
      () => { this.#again ||= setTimeout(() => { this.#again = 0; this.draw(); }, AGAIN_MS); },
    );
    const ink = this.#ink;
    ink.clearRect(0, 0, this.#wide, this.#high);
    this.#spots = [];
    const now = performance.now();
    if (this.#popping && now - this.#painted > SLOW_MS) this.#calm = now + CALM_MS;
    this.#painted = now;
    this.#pops = !still.matches && now >= this.#calm;
    let busy = false;
    this.#spread(first, last);
    const places = new Map();
    for (let height = first; height <= last; height++) {
      for (const anchor of this.#tree.row(height)) places.set(anchor.id, [this.#x(height), this.#y(anchor.lane || 0)]);
    }
    for (let height = first; height <= last; height++) this.#scale(height);
    for (let height = first; height <= last; height++) {
      for (const anchor of this.#tree.row(height)) this.#edge(anchor, places);
    }
    let drawn = 0;
    for (let height = first; height <= last; height++) {
      const row = this.#tree.row(height);
      for (const anchor of row) {
        const length = this.#length(anchor, height);
        anchor.coins.forEach((coin, order) => {
          drawn++;
          if (places.has(coin.id)) return;
          busy = this.#coin(anchor, coin, length, order, places, now) || busy;
        });
      }
      for (const anchor of row) busy = this.#anchor(anchor, places, now, row.length > 1) || busy;
    }
    this.#canvas.dataset.drawn = String(drawn);
    this.#canvas.dataset.coins = [...this.#tree.row(this.#tree.tip.height)].reduce((sum, a) => sum + a.votes, 0);
    const tip = places.get(this.#tree.tip.id);
    this.#canvas.dataset.tip = tip ? `${Math.round(tip[0])},${Math.round(tip[1])}` : "";
    this.#canvas.dataset.height = String(this.#tree.tip.height);
    this.#popping = busy;
    if (busy) this.draw();
  }

  // How long an anchor's epoch took, or has taken so far.
  #length(anchor, height) {
    const next = this.#tree.row(height + 1).find((one) => one.parent === anchor.id);
    let end = next ? next.time : anchor.time;
    for (const coin of anchor.coins) end = Math.max(end, coin.time);
    return Math.max(1, end - anchor.time);
  }

  #scale(height) {
    if (height < this.#tree.lowest || height > this.#tree.tip.height) return;
    const ink = this.#ink;
    const x = Math.round(this.#x(height)) + 0.5;
    ink.strokeStyle = this.#colours.line;
    ink.lineWidth = 1;
    ink.beginPath();
    ink.moveTo(x, 4);
    ink.lineTo(x, this.#high - 22);
    ink.stroke();
    ink.fillStyle = this.#colours.soft;
    ink.font = `12px ${this.#colours.font}`;
    ink.textAlign = "center";
    ink.fillText(height.toLocaleString("en"), x, this.#high - 7);
  }

  #edge(anchor, places) {
    const [x, y] = places.get(anchor.id);
    const from = places.get(anchor.parent) || [x - this.#column, this.#y(anchor.lane || 0)];
    const ink = this.#ink;
    const main = anchor.status === "main";
    ink.strokeStyle = this.#colours[main ? "main-edge" : "side-edge"];
    ink.lineWidth = main ? 3 : 2;
    ink.setLineDash(["invalid", "dead", "set-aside", "bodyless"].includes(anchor.status) ? [4, 5] : []);
    ink.beginPath();
    ink.moveTo(...from);
    const bend = (x - from[0]) / 2;
    ink.bezierCurveTo(from[0] + bend, from[1], x - bend, y, x, y);
    ink.stroke();
    ink.setLineDash([]);
  }

  #coin(anchor, coin, length, order, places, now) {
    const [x, y] = places.get(anchor.id);
    // By time, and apart where several came at once.
    const share = Math.max(0, Math.min(1, (coin.time - anchor.time) / length));
    const at = (share + (order + 0.5) / Math.max(4, anchor.coins.length)) / 2;
    // Its own id says on which side and how far out it hangs, so that it never moves again.
    const side = parseInt(coin.id.slice(-2), 16) & 1 ? 1 : -1;
    const out = (0.2 + 0.8 * (parseInt(coin.id.slice(-5, -2), 16) / 4095)) * Math.min(REACH_MAX, REACH * this.#lane);
    const cx = x + 13 + at * (this.#column - 30);
    const cy = y + side * out;
    const age = now - coin.since;
    const fresh = this.#pops && age < POP_MS;
    const grow = fresh ? 1 + 1.6 * (1 - age / POP_MS) ** 2 : 1;
    const radius = (2.6 + Math.min(5.5, 1.15 * Math.log2(Math.max(1, coin.luck)))) * grow;
    const ink = this.#ink;
    ink.strokeStyle = this.#colours[coin.kind];
    ink.globalAlpha = 0.28;
    ink.lineWidth = 1;
    ink.beginPath();
    ink.moveTo(x, y);
    ink.quadraticCurveTo(cx, y, cx, cy);
    ink.stroke();
    ink.globalAlpha = 1;
    ink.fillStyle = this.#colours[coin.kind];
    ink.beginPath();
    ink.arc(cx, cy, radius, 0, 7);
    ink.fill();
    this.#spots.push([cx, cy, Math.max(7, radius), coin, anchor]);
    return fresh;
  }

  #anchor(anchor, places, now, contested) {
    const [x, y] = places.get(anchor.id);
    const age = now - anchor.since;
    const fresh = this.#pops && age < POP_MS;
    const grow = fresh ? 1 + 0.9 * (1 - age / POP_MS) ** 2 : 1;
    const main = anchor.status === "main";
    const radius = (main ? 9 : 7) * grow;
    const ink = this.#ink;
    const tip = anchor.id === this.#tree.tip.id;
    if (tip || this.#chosen === anchor.id) {
      ink.fillStyle = this.#colours.glow;
      ink.beginPath();
      ink.arc(x, y, radius + (this.#chosen === anchor.id ? 12 : 9), 0, 7);
      ink.fill();
    }
    ink.fillStyle = this.#colours.panel;
    ink.beginPath();
    ink.arc(x, y, radius + 3, 0, 7);
    ink.fill();
    ink.fillStyle = main ? this.#colours.anchor : this.#colours.panel;
    ink.strokeStyle = main ? this.#colours.anchor : this.#colours.stray;
    ink.lineWidth = 2.4;
    ink.beginPath();
    ink.arc(x, y, radius, 0, 7);
    ink.fill();
    ink.stroke();
    if (contested) {
      ink.fillStyle = this.#colours[main ? "text" : "soft"];
      ink.font = `600 12px ${this.#colours.font}`;
      ink.textAlign = "right";
      const text = `${anchor.votes} ${anchor.votes === 1 ? "vote" : "votes"}`;
      ink.strokeStyle = this.#colours.panel;
      ink.lineWidth = 5;
      ink.strokeText(text, x - radius - 7, y - 8);
      ink.fillText(text, x - radius - 7, y - 8);
    }
    this.#spots.push([x, y, radius + 5, null, anchor]);
    return fresh;
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = Infinity;
    for (const spot of this.#spots) {
      const distance = Math.hypot(spot[0] - x, spot[1] - y);
      if (distance <= spot[2] + 3 && distance < least) [best, least] = [spot, distance];
    }
    return best;
  }

  #grab(event) {
    this.#drag = { x: event.clientX, middle: this.#middle, moved: false };
    this.#canvas.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const drag = this.#drag;
    if (drag) {
      const by = event.clientX - drag.x;
      drag.moved ||= Math.abs(by) > 4;
      if (drag.moved) this.moveTo(drag.middle - by / this.#column);
      return;
    }
    const spot = this.#at(event);
    this.#canvas.style.cursor = spot ? "pointer" : "";
    this.#note.hidden = !spot;
    if (!spot) return;
    this.#note.textContent = describe(spot[4], spot[3]);
    const left = Math.min(spot[0] + 14, this.#wide - this.#note.offsetWidth - 6);
    this.#note.style.transform = `translate(${Math.max(4, left)}px, ${spot[1] + 16 - this.#high}px)`;
  }

  #drop(event) {
    const drag = this.#drag;
    this.#drag = null;
    const spot = drag && !drag.moved && this.#at(event);
    if (spot) this.#canvas.dispatchEvent(new CustomEvent("choose", { detail: { anchor: spot[4], coin: spot[3] } }));
  }

  #wheel(event) {
    const by = Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.shiftKey ? event.deltaY : 0;
    if (!by) return;
    event.preventDefault();
    this.moveTo(this.#middle + by / this.#column);
  }

  #key(event) {
    const here = this.#find(this.#chosen) || this.#main(Math.min(Math.round(this.#middle), this.#tree.tip.height));
    const goals = {
      ArrowLeft: () => this.#main(here.height - 1),
      ArrowRight: () => this.#main(here.height + 1),
      ArrowUp: () => this.#beside(here, -1),
      ArrowDown: () => this.#beside(here, 1),
      Home: () => { this.moveTo(this.#tree.lowest); return null; },
      End: () => this.#main(this.#tree.tip.height),
    };
    if (event.key === "Enter" && here) {
      this.#canvas.dispatchEvent(new CustomEvent("choose", { detail: { anchor: here, coin: null } }));
    } else if (goals[event.key]) {
      event.preventDefault();
      const next = here && goals[event.key]();
      if (!next) return;
      this.#chosen = next.id;
      this.#said.textContent = describe(next, null);
      const x = this.#x(next.height);
      if (x < this.#column || x > this.#wide - 2 * this.#column) this.moveTo(next.height);
      else this.draw();
    }
  }

  #main(height) { return this.#tree.row(height).find((anchor) => anchor.status === "main"); }

  #beside(anchor, step) {
    const row = [...this.#tree.row(anchor.height)].sort((one, other) => one.lane - other.lane);
    return row[row.indexOf(anchor) + step];
  }

  #find(id) {
    for (const [, , , , anchor] of this.#spots) if (anchor.id === id) return anchor;
    return null;
  }
}

function describe(anchor, coin) {
  const short = (id) => `${id.slice(0, 7)}…${id.slice(-6)}`;
  if (coin) return `Coin ${short(coin.id)}: ${coin.kind}, ${coin.luck.toLocaleString("en")} times luckier than needed, votes for ${short(anchor.id)}`;
  const place = anchor.status === "main" ? "on the main chain" : anchor.status;
  return `Anchor ${anchor.height.toLocaleString("en")}, ${short(anchor.id)}: ${anchor.votes} ${anchor.votes === 1 ? "vote" : "votes"}, ${place}`;
}
