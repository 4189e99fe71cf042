// The mask of one picture: what was found, what was drawn on it, and the way back.
//
// 0 keeps a pixel, 255 repaints it. What is drawn lies above what was found, so that the sensitivity can change below it.

const TILE = 64;
const KEPT_BYTES = 96 << 20;

const DRAWN = 1;
const ERASED = 2;

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.base = new Uint8Array(width * height);
    /** 0, DRAWN or ERASED for each pixel. */
    this.edits = new Uint8Array(width * height);
    /** What is looked at and sent: `base` under `edits`. Each further level is half as large, the larger value wins. */
    this.levels = [];
    for (let w = width, h = height; ; w = (w + 1) >> 1, h = (h + 1) >> 1) {
      this.levels.push({ width: w, height: h, values: new Uint8Array(w * h) });
      if (Math.max(w, h) <= 256) break;
    }
    this.hasEdits = false;
    /** True if `base` is what the detector found. */
    this.isDetected = true;
    this.past = [];
    this.future = [];
    this.stroke = null;
  }

  get values() {
    return this.levels[0].values;
  }

  /** True if the server knows this mask without being sent it. */
  get isPristine() {
    return this.isDetected && !this.hasEdits;
  }

  /** The share of the pixels that are marked. */
  get coverage() {
    const values = this.values;
    let count = 0;
    for (let i = 0; i < values.length; i++) if (values[i]) count++;
    return count / values.length;
  }

  /** Takes what the detector found, of any size, under what was drawn. */
  setFound({ width, height, values }) {
    // A mask that came from elsewhere is not lost.
    if (!this.isDetected) this.remember({ base: this.base, edits: this.edits, hasEdits: this.hasEdits, isDetected: false });
    this.base = resized(values, width, height, this.width, this.height);
    this.isDetected = true;
    this.refresh();
  }

  /** Takes a whole mask, such as an imported one, in place of everything; can be undone. */
  replace(values, isDetected = false) {
    this.remember({ base: this.base, edits: this.edits, hasEdits: this.hasEdits, isDetected: this.isDetected });
    this.base = values;
    this.edits = new Uint8Array(values.length);
    this.hasEdits = false;
    this.isDetected = isDetected;
    this.refresh();
  }

  /** Takes the mask that the server has kept. */
  load(values) {
    this.base = values;
    this.isDetected = false;
    this.refresh();
  }

  clear() {
    this.replace(new Uint8Array(this.width * this.height));
  }

  beginStroke(erase) {
    this.stroke = { value: erase ? ERASED : DRAWN, tiles: new Map(), hadEdits: this.hasEdits };
  }

  /** Draws a line with round ends, `radius` pixels to each side. */
  line(x0, y0, x1, y1, radius) {
    if (!this.stroke) return;
    const r = Math.max(radius, 0.5);
    const left = Math.max(0, Math.floor(Math.min(x0, x1) - r));
    const top = Math.max(0, Math.floor(Math.min(y0, y1) - r));
    const right = Math.min(this.width, Math.ceil(Math.max(x0, x1) + r) + 1);
    const bottom = Math.min(this.height, Math.ceil(Math.max(y0, y1) + r) + 1);
    if (left >= right || top >= bottom) return;
    this.keepTiles(left, top, right, bottom);
    const dx = x1 - x0;
    const dy = y1 - y0;
    const length = dx * dx + dy * dy;
    const { value } = this.stroke;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const px = x + 0.5 - x0;
        const py = y + 0.5 - y0;
        const t = length > 0 ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const ex = px - t * dx;
        const ey = py - t * dy;
        if (ex * ex + ey * ey <= r * r) this.edits[y * this.width + x] = value;
      }
    }
    this.hasEdits = true;
    this.refresh(left, top, right, bottom);
  }

  endStroke() {
    const { stroke } = this;
    this.stroke = null;
    if (stroke && stroke.tiles.size) this.remember({ tiles: stroke.tiles, hasEdits: stroke.hadEdits });
  }

  /** Takes a stroke back that turned out to be something else, such as the first finger of two. */
  cancelStroke() {
    const { stroke } = this;
    this.stroke = null;
    if (stroke) this.swap({ tiles: stroke.tiles, hasEdits: stroke.hadEdits });
  }

  undo() {
    const entry = this.past.pop();
    if (entry) this.future.push(this.swap(entry));
    return Boolean(entry);
  }

  redo() {
    const entry = this.future.pop();
    if (entry) this.past.push(this.swap(entry));
    return Boolean(entry);
  }

  remember(entry) {
    this.past.push(entry);
    this.future = [];
    const size = ({ tiles, base }) => (tiles ? tiles.size * TILE * TILE : 2 * base.length);
    let bytes = this.past.reduce((sum, entry) => sum + size(entry), 0);
    while (bytes > KEPT_BYTES && this.past.length > 1) bytes -= size(this.past.shift());
  }

  /** Puts back what an entry holds, and gives the entry that takes that back. */
  swap(entry) {
    const back = { hasEdits: this.hasEdits };
    this.hasEdits = entry.hasEdits;
    if (entry.base) {
      Object.assign(back, { base: this.base, edits: this.edits, isDetected: this.isDetected });
      this.base = entry.base;
      this.edits = entry.edits;
      this.isDetected = entry.isDetected;
      this.refresh();
      return back;
    }
    back.tiles = new Map();
    for (const [key, values] of entry.tiles) {
      back.tiles.set(key, this.tile(key));
      const { x, y, width, height } = this.tileRect(key);
      for (let row = 0; row < height; row++) {
        const from = values.subarray(row * width, (row + 1) * width);
        this.edits.set(from, (y + row) * this.width + x);
      }
      this.refresh(x, y, x + width, y + height);
    }
    return back;
  }

  tileRect(key) {
    const across = Math.ceil(this.width / TILE);
    const x = (key % across) * TILE;
    const y = Math.floor(key / across) * TILE;
    return { x, y, width: Math.min(TILE, this.width - x), height: Math.min(TILE, this.height - y) };
  }

  /** A copy of what was drawn in a tile. */
  tile(key) {
    const { x, y, width, height } = this.tileRect(key);
    const values = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const start = (y + row) * this.width + x;
      values.set(this.edits.subarray(start, start + width), row * width);
    }
    return values;
  }

  keepTiles(left, top, right, bottom) {
    const across = Math.ceil(this.width / TILE);
    for (let y = Math.floor(top / TILE); y * TILE < bottom; y++) {
      for (let x = Math.floor(left / TILE); x * TILE < right; x++) {
        const key = y * across + x;
        if (!this.stroke.tiles.has(key)) this.stroke.tiles.set(key, this.tile(key));
      }
    }
  }

  /** Brings every level up to date inside a rectangle. */
  refresh(left = 0, top = 0, right = this.width, bottom = this.height) {
    const { base, edits } = this;
    const { values } = this.levels[0];
    for (let y = top; y < bottom; y++) {
      for (let i = y * this.width + left, end = y * this.width + right; i < end; i++) {
        const edit = edits[i];
        values[i] = edit === 0 ? base[i] : edit === DRAWN ? 255 : 0;
      }
    }
    for (let at = 1; at < this.levels.length; at++) {
      const fine = this.levels[at - 1];
      const coarse = this.levels[at];
      left >>= 1;
      top >>= 1;
      right = Math.min(coarse.width, (right + 1) >> 1);
      bottom = Math.min(coarse.height, (bottom + 1) >> 1);
      for (let y = top; y < bottom; y++) {
        const upper = 2 * y * fine.width;
        const lower = Math.min(2 * y + 1, fine.height - 1) * fine.width;
        for (let x = left; x < right; x++) {
          const x0 = 2 * x;
          const x1 = Math.min(x0 + 1, fine.width - 1);
          coarse.values[y * coarse.width + x] = Math.max(
            fine.values[upper + x0],
            fine.values[upper + x1],
            fine.values[lower + x0],
            fine.values[lower + x1],
          );
        }
      }
    }
  }
}

/** Values at another size, each pixel taking the one that it falls on. */
function resized(values, fromWidth, fromHeight, width, height) {
  if (fromWidth === width && fromHeight === height) return values;
  const result = new Uint8Array(width * height);
  const columns = Uint32Array.from({ length: width }, (_, x) => Math.floor((x * fromWidth) / width));
  for (let y = 0; y < height; y++) {
    const start = Math.floor((y * fromHeight) / height) * fromWidth;
    for (let x = 0; x < width; x++) result[y * width + x] = values[start + columns[x]];
  }
  return result;
}
