// The brush: strokes on an image, by pointer or by keys, in a mask of its own size whose alpha says how much.
"use strict";

class PaintBrush {
  // canvas: where the image is shown; side: pixels of a mask; heard: { begun, ended, widened }, called with nothing.
  constructor(canvas, side, heard) {
    Object.assign(this, { canvas, side, heard, image: null, width: 12, away: false, marks: false, colour: "#2f5fb3" });
    Object.assign(this, { at: null, painting: false, loading: 0, moved: false });
    this.mask = document.createElement("canvas");
    this.tint = document.createElement("canvas");
    for (const one of [this.mask, this.tint]) one.width = one.height = side;
    this.mask.getContext("2d", { willReadFrequently: true });
    canvas.width = canvas.height = 512;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => this.up());
    canvas.addEventListener("pointercancel", () => this.up());
    canvas.addEventListener("pointerleave", () => { if (!this.painting) { this.at = null; this.draw(); } });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => { this.at = null; this.draw(); });
  }

  show(image) {
    this.image = image;
    this.draw();
  }

  // Take a mask over, a PNG in a data address; null is an empty one, "all" a full one.
  async load(source) {
    const turn = (this.loading += 1), pen = this.mask.getContext("2d");
    let image = null;
    if (source && source !== "all") {
      image = new Image();
      image.src = source;
      await image.decode();
    }
    if (turn !== this.loading) return;
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, this.side, this.side);
    pen.fillStyle = "#fff";
    if (image) pen.drawImage(image, 0, 0, this.side, this.side);
    else if (source) pen.fillRect(0, 0, this.side, this.side);
    this.loading = 0;
    this.draw();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * this.side, y: ((event.clientY - box.top) / box.height) * this.side };
  }

  down(event) {
    if (event.button || !this.image || this.loading || !this.heard.begun()) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.painting = true;
    this.at = this.place(event);
    this.stroke(this.at, this.at);
    this.draw();
  }

  move(event) {
    const last = this.at;
    this.at = this.place(event);
    if (this.painting) this.stroke(last || this.at, this.at);
    this.draw();
  }

  up() {
    if (!this.painting) return;
    this.painting = false;
    this.heard.ended();
    this.draw();
  }

  // Arrows move the brush (with Shift further), Space paints where it is, [ and ] change its width.
  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.image) return;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const step = (this.side / 64) * (event.shiftKey ? 8 : 1), inside = (value) => Math.min(this.side, Math.max(0, value));
    this.at ??= { x: this.side / 2, y: this.side / 2 };
    if (way) {
      this.at = { x: inside(this.at.x + way[0] * step), y: inside(this.at.y + way[1] * step) };
    } else if (event.key === " ") {
      if (this.painting || this.loading || !this.heard.begun()) return event.preventDefault();
      this.stroke(this.at, this.at);
      this.heard.ended();
    } else if (event.key === "[" || event.key === "]") {
      this.heard.widened(event.key === "]" ? 1 : -1);
    } else {
      return undefined;
    }
    event.preventDefault();
    return this.draw();
  }

  stroke(from, to) {
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = this.away ? "destination-out" : "source-over";
    pen.strokeStyle = "#fff";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = this.pixels;
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x + (from === to ? 0.01 : 0), to.y);
    pen.stroke();
  }

  // Of a mask; `width` is in hundredths of the image's side.
  get pixels() { return Math.max(1, (this.width / 100) * this.side); }

  // The mask as a PNG in a data address, "" if nothing is in it.
  data() {
    const { data } = this.mask.getContext("2d").getImageData(0, 0, this.side, this.side);
    for (let i = 3; i < data.length; i += 4) if (data[i]) return this.mask.toDataURL("image/png");
    return "";
  }

  draw() {
    if (!this.image) return;
    const pen = this.canvas.getContext("2d"), size = this.canvas.width, scale = size / this.side;
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.image, 0, 0, size, size);
    if (this.marks || this.painting) {
      const tint = this.tint.getContext("2d");
      tint.globalCompositeOperation = "copy";
      tint.drawImage(this.mask, 0, 0);
      tint.globalCompositeOperation = "source-in";
      tint.fillStyle = this.colour;
      tint.fillRect(0, 0, this.side, this.side);
      pen.globalAlpha = 0.5;
      pen.drawImage(this.tint, 0, 0, size, size);
      pen.globalAlpha = 1;
    }
    if (!this.at) return;
    for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.beginPath();
      pen.arc(this.at.x * scale, this.at.y * scale, (this.pixels / 2) * scale, 0, 7);
      pen.stroke();
    }
  }
}
