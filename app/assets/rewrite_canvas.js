// A mask on an image, painted with a brush or as a box, by pointer or by keys. It is of the image's own pixels: a pixel is
// in it or not.
"use strict";

class MaskPainter {
  // canvas: where it is shown; changed: called after every stroke.
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, tool: "brush", width: 8, image: null, side: 0, marked: false, from: null, at: null });
    this.mask = document.createElement("canvas");
    this.mask.getContext("2d", { willReadFrequently: true });
    this.shade = document.createElement("canvas");
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", () => { this.from = null; this.draw(); });
    canvas.addEventListener("pointerleave", () => { if (!this.from) { this.at = null; this.draw(); } });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => { this.at ??= { x: this.side / 2, y: this.side / 2 }; this.draw(); });
    canvas.addEventListener("blur", () => { this.at = null; this.from = null; this.draw(); });
  }

  // Show another image [side x side]; the mask stays if the size does.
  show(image) {
    this.image = image;
    if (this.side !== image.width) {
      this.side = image.width;
      const shown = this.side * Math.max(1, Math.round(512 / this.side));
      for (const one of [this.mask, this.shade]) one.width = one.height = this.side;
      this.canvas.width = this.canvas.height = shown;
      this.marked = false;
    }
    this.draw();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const inside = (value, size) => Math.min(this.side, Math.max(0, (value / size) * this.side));
    return { x: inside(event.clientX - box.left, box.width), y: inside(event.clientY - box.top, box.height) };
  }

  down(event) {
    if (event.button || !this.image) return;
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    this.at = this.from = this.place(event);
    if (this.tool !== "box") this.stroke(this.from, this.from);
    this.draw();
  }

  move(event) {
    if (!this.image) return;
    const last = this.at;
    this.at = this.place(event);
    if (this.from && this.tool !== "box") this.stroke(last, this.at);
    this.draw();
  }

  up(event) {
    if (!this.from) return;
    this.at = this.place(event);
    if (this.tool === "box") this.box(this.from, this.at);
    this.from = null;
    this.done();
  }

  // Arrows move a cross (with Shift further), Space paints there or sets a corner of a box, Escape lets the corner go.
  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !this.image) return;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const step = Math.max(1, this.side / 64) * (event.shiftKey ? 8 : 1);
    this.at ??= { x: this.side / 2, y: this.side / 2 };
    if (way) {
      const inside = (value) => Math.min(this.side, Math.max(0, value));
      this.at = { x: inside(this.at.x + way[0] * step), y: inside(this.at.y + way[1] * step) };
    } else if (event.key === " " && this.tool === "box" && !this.from) {
      this.from = this.at;
    } else if (event.key === " " && this.tool === "box") {
      this.box(this.from, this.at);
      this.from = null;
      this.changed();
    } else if (event.key === " ") {
      this.stroke(this.at, this.at);
      this.changed();
    } else if (event.key === "Escape" && this.from) {
      this.from = null;
    } else {
      return;
    }
    event.preventDefault();
    this.draw();
  }

  stroke(from, to) {
    const pen = this.mask.getContext("2d");
    this.marked = true;
    pen.globalCompositeOperation = this.tool === "erase" ? "destination-out" : "source-over";
    pen.lineCap = "round";
    pen.lineWidth = this.width;
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x + (from === to ? 0.01 : 0), to.y);
    pen.stroke();
  }

  box(from, to) {
    const [left, right] = [from.x, to.x].sort((a, b) => a - b).map(Math.round);
    const [top, bottom] = [from.y, to.y].sort((a, b) => a - b).map(Math.round);
    const pen = this.mask.getContext("2d");
    this.marked = true;
    pen.globalCompositeOperation = "source-over";
    pen.fillRect(left, top, Math.max(1, right - left), Math.max(1, bottom - top));
  }

  all() {
    this.marked = true;
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.fillRect(0, 0, this.side, this.side);
    this.done();
  }

  clear() {
    this.marked = false;
    this.mask.getContext("2d").clearRect(0, 0, this.side, this.side);
    this.done();
  }

  // Take a mask over: an image whose alpha (or, of a grey one, whose brightness) says where.
  async load(source, grey = false) {
    const image = new Image();
    image.src = source;
    await image.decode();
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, this.side, this.side);
    pen.drawImage(image, 0, 0, this.side, this.side);
    this.marked = true;
    if (grey) this.each((pixels, i) => { pixels[i + 3] = pixels[i]; });
    this.done();
  }

  each(act) {
    const pen = this.mask.getContext("2d"), data = pen.getImageData(0, 0, this.side, this.side);
    for (let i = 0; i < data.data.length; i += 4) act(data.data, i);
    pen.putImageData(data, 0, 0);
  }

  // The mask as a PNG in a data address, "" if nothing is in it.
  data() {
    let any = false;
    this.each((pixels, i) => {
      const inside = pixels[i + 3] >= 128;
      any ||= inside;
      pixels.fill(0, i, i + 3);
      pixels[i + 3] = inside ? 255 : 0;
    });
    return any ? this.mask.toDataURL("image/png") : "";
  }

  done() {
    this.draw();
    this.changed();
  }

  draw() {
    if (!this.image) return;
    const pen = this.canvas.getContext("2d"), size = this.canvas.width, scale = size / this.side;
    MaskPainter.over(pen, size, this.image, this.marked ? this.mask : null, this.shade);
    pen.lineWidth = 2;
    for (const [colour, dash] of [["#000", 0], ["#fff", 4]]) {
      pen.strokeStyle = colour;
      pen.setLineDash([4, 4]);
      pen.lineDashOffset = dash;
      if (this.from && this.tool === "box") {
        pen.strokeRect(this.from.x * scale, this.from.y * scale, (this.at.x - this.from.x) * scale, (this.at.y - this.from.y) * scale);
      } else if (this.at && this.tool !== "box") {
        pen.beginPath();
        pen.arc(this.at.x * scale, this.at.y * scale, (this.width / 2) * scale, 0, 7);
        pen.stroke();
      } else if (this.at) {
        pen.beginPath();
        pen.moveTo(this.at.x * scale - 9, this.at.y * scale); pen.lineTo(this.at.x * scale + 9, this.at.y * scale);
        pen.moveTo(this.at.x * scale, this.at.y * scale - 9); pen.lineTo(this.at.x * scale, this.at.y * scale + 9);
        pen.stroke();
      }
    }
    pen.setLineDash([]);
  }

  // Draw an image, and darken what is outside a mask; null is no mask.
  static over(pen, size, image, mask, shade) {
    pen.imageSmoothingEnabled = size < image.width || size % image.width !== 0;
    pen.globalCompositeOperation = "source-over";
    pen.drawImage(image, 0, 0, size, size);
    if (!mask) return;
    const brush = shade.getContext("2d");
    brush.globalCompositeOperation = "source-over";
    brush.clearRect(0, 0, shade.width, shade.height);
    brush.fillStyle = "#0b0d148c";
    brush.fillRect(0, 0, shade.width, shade.height);
    brush.globalCompositeOperation = "destination-out";
    brush.drawImage(mask, 0, 0);
    pen.drawImage(shade, 0, 0, size, size);
  }
}
