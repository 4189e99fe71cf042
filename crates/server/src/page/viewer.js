// The picture on its stage: zoomed and moved, with its mask over it or its restoration beside it.

const MAX_ZOOM = 32;
const TINT = [232, 38, 92];
const TINT_ALPHA = 150;

export class Viewer {
  /**
   * @param parts the elements `stage`, `before`, `after`, `overlay`, `divider` and `brush`
   * @param changed called after the view has changed
   */
  constructor(parts, changed) {
    Object.assign(this, parts);
    this.changed = changed;
    this.width = 0;
    this.height = 0;
    /** CSS pixels for each pixel of the picture, and where its corner is on the stage. */
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.isFitted = true;
    this.mode = "mask";
    this.showsMask = true;
    this.split = 0.5;
    this.mask = null;
    this.frame = 0;
    new ResizeObserver(() => this.resized()).observe(this.stage);
  }

  get ratio() {
    return Math.min(devicePixelRatio || 1, 2);
  }

  /** Zoom as people mean it: 1 is one pixel of the picture on one of the screen. */
  get zoom() {
    return this.scale * (devicePixelRatio || 1);
  }

  setPicture(width, height) {
    this.width = width;
    this.height = height;
    for (const image of [this.before, this.after]) {
      image.width = width;
      image.height = height;
    }
    this.mask = null;
    this.fit();
  }

  setMask(mask) {
    this.mask = mask;
    this.draw();
  }

  setMode(mode) {
    this.mode = mode;
    this.setBrush(0, 0, 0, false);
    this.draw();
  }

  get fitScale() {
    const { clientWidth, clientHeight } = this.stage;
    const margin = Math.min(clientWidth, clientHeight) < 420 ? 8 : 24;
    const scale = Math.min((clientWidth - 2 * margin) / this.width, (clientHeight - 2 * margin) / this.height);
    return Math.max(Math.min(scale, 4), 1e-3);
  }

  fit() {
    if (!this.width) return;
    this.scale = this.fitScale;
    this.x = (this.stage.clientWidth - this.width * this.scale) / 2;
    this.y = (this.stage.clientHeight - this.height * this.scale) / 2;
    this.isFitted = true;
    this.draw();
  }

  resized() {
    if (this.isFitted) this.fit();
    else this.move(0, 0);
  }

  /** Zooms so that what is under a point of the stage stays there. */
  zoomTo(scale, atX = this.stage.clientWidth / 2, atY = this.stage.clientHeight / 2) {
    if (!this.width) return;
    const fitted = this.fitScale;
    const least = Math.min(fitted, 1 / (devicePixelRatio || 1));
    const next = Math.min(Math.max(scale, least), MAX_ZOOM);
    const factor = next / this.scale;
    this.x = atX - (atX - this.x) * factor;
    this.y = atY - (atY - this.y) * factor;
    this.scale = next;
    this.isFitted = Math.abs(next - fitted) < 1e-6;
    this.move(0, 0);
  }

  zoomBy(factor, atX, atY) {
    this.zoomTo(this.scale * factor, atX, atY);
  }

  toActualSize(atX, atY) {
    this.zoomTo(1 / (devicePixelRatio || 1), atX, atY);
  }

  /** Moves the picture, which cannot be lost. */
  move(dx, dy) {
    const place = (at, size, room) => {
      if (size <= room) return (room - size) / 2;
      const slack = room / 4;
      return Math.min(slack, Math.max(room - size - slack, at));
    };
    this.x = place(this.x + dx, this.width * this.scale, this.stage.clientWidth);
    this.y = place(this.y + dy, this.height * this.scale, this.stage.clientHeight);
    this.draw();
  }

  /** A point of the stage in pixels of the picture. */
  toPicture(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** Where the divider stands, 0 to 1 of the stage. */
  setSplit(split) {
    this.split = Math.min(1, Math.max(0, split));
    this.draw();
  }

  setBrush(x, y, size, shown) {
    this.brush.hidden = !shown;
    if (!shown) return;
    this.brush.style.width = this.brush.style.height = `${size}px`;
    this.brush.style.transform = `translate(${x - size / 2}px, ${y - size / 2}px)`;
  }

  draw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    this.frame = 0;
    const { stage, before, after, divider, scale, x, y } = this;
    const transform = `translate(${x}px, ${y}px) scale(${scale})`;
    const compares = this.mode === "compare" && after.src !== "";
    for (const image of [before, after]) {
      image.style.transform = transform;
      image.classList.toggle("pixels", this.zoom >= 3);
    }
    after.hidden = !compares;
    divider.hidden = !compares;
    if (compares) {
      const line = this.split * stage.clientWidth;
      after.style.clipPath = `inset(0 0 0 ${Math.min(this.width, Math.max(0, (line - x) / scale))}px)`;
      divider.style.transform = `translateX(${line}px)`;
      divider.setAttribute("aria-valuenow", String(Math.round(this.split * 100)));
    }
    this.drawOverlay();
    this.changed();
  }

  drawOverlay() {
    const { overlay, stage, mask, ratio } = this;
    const shows = this.mode === "mask" && this.showsMask && mask;
    overlay.hidden = !shows;
    if (!shows) return;
    const width = Math.max(1, Math.round(stage.clientWidth * ratio));
    const height = Math.max(1, Math.round(stage.clientHeight * ratio));
    if (overlay.width !== width || overlay.height !== height) {
      overlay.width = width;
      overlay.height = height;
    }
    const context = overlay.getContext("2d");
    context.clearRect(0, 0, width, height);

    // The part of the overlay that the picture covers, in its own pixels.
    const scale = this.scale * ratio;
    const left = Math.max(0, Math.floor(this.x * ratio));
    const top = Math.max(0, Math.floor(this.y * ratio));
    const right = Math.min(width, Math.ceil((this.x + this.width * this.scale) * ratio));
    const bottom = Math.min(height, Math.ceil((this.y + this.height * this.scale) * ratio));
    if (left >= right || top >= bottom) return;

    // A level in which no pixel falls between two of the screen: thin cracks stay in sight.
    let level = 0;
    while (level + 1 < mask.levels.length && scale * 2 ** level < 0.75) level++;
    const { width: columns, height: rows, values } = mask.levels[level];
    const step = 1 / (scale * 2 ** level);
    const at = (pixel, origin, limit) =>
      Math.min(limit - 1, Math.max(0, Math.floor((pixel + 0.5 - origin * ratio) * step)));
    const fromX = Int32Array.from({ length: right - left }, (_, i) => at(left + i, this.x, columns));
    const image = context.createImageData(right - left, bottom - top);
    const pixels = new Uint32Array(image.data.buffer);
    const tint = (TINT[2] << 16) | (TINT[1] << 8) | TINT[0];
    for (let row = 0, to = 0; row < bottom - top; row++) {
      const start = at(top + row, this.y, rows) * columns;
      for (let column = 0; column < fromX.length; column++, to++) {
        const value = values[start + fromX[column]];
        if (value) pixels[to] = (((value * TINT_ALPHA) / 255) << 24) | tint;
      }
    }
    context.putImageData(image, left, top);
  }
}
