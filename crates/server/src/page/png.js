// 8-bit grey PNG files in and out, value for value: a canvas would convert colours and has limits of size.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc(...parts) {
  let c = 0xffffffff;
  for (const bytes of parts) {
    for (let i = 0; i < bytes.length; i++) c = CRC_TABLE[(c ^ bytes[i]) & 255] ^ (c >>> 8);
  }
  return (c ^ 0xffffffff) >>> 0;
}

async function through(transform, bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function word(value) {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

function chunk(name, data) {
  const type = Uint8Array.from(name, (letter) => letter.charCodeAt(0));
  return [word(data.length), type, data, word(crc(type, data))];
}

/** A PNG file of `width · height` grey values. */
export async function encodeGrey(width, height, values) {
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) {
    rows.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const packed = await through(new CompressionStream("deflate"), rows);
  const header = new Uint8Array(13);
  header.set(word(width), 0);
  header.set(word(height), 4);
  header[8] = 8;
  const parts = [
    Uint8Array.from(SIGNATURE),
    ...chunk("IHDR", header),
    ...chunk("IDAT", packed),
    ...chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts, { type: "image/png" });
}

/** The size and the grey values of a PNG file as the server writes masks. */
export async function decodeGrey(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (SIGNATURE.some((byte, at) => bytes[at] !== byte)) throw new Error("expected a PNG file");
  let width = 0;
  let height = 0;
  const data = [];
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") {
      width = view.getUint32(at + 8);
      height = view.getUint32(at + 12);
      if (body[8] !== 8 || body[9] !== 0 || body[12] !== 0) throw new Error("expected a grey PNG file");
    } else if (type === "IDAT") {
      data.push(body);
    }
    at += 12 + length;
  }
  const rows = await through(new DecompressionStream("deflate"), new Blob(data));
  return { width, height, values: unfiltered(rows, width, height) };
}

function unfiltered(rows, width, height) {
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const filter = rows[y * (width + 1)];
    const from = y * (width + 1) + 1;
    const to = y * width;
    const up = to - width;
    if (filter === 0) {
      values.set(rows.subarray(from, from + width), to);
      continue;
    }
    for (let x = 0; x < width; x++) {
      const a = x > 0 ? values[to + x - 1] : 0;
      const b = y > 0 ? values[up + x] : 0;
      const c = x > 0 && y > 0 ? values[up + x - 1] : 0;
      let predicted = 0;
      if (filter === 1) predicted = a;
      else if (filter === 2) predicted = b;
      else if (filter === 3) predicted = (a + b) >> 1;
      else predicted = paeth(a, b, c);
      values[to + x] = rows[from + x] + predicted;
    }
  }
  return values;
}

function paeth(a, b, c) {
  const p = a + b - c;
  const pa = Math.abs(p - a);
  const pb = Math.abs(p - b);
  const pc = Math.abs(p - c);
  if (pa <= pb && pa <= pc) return a;
  return pb <= pc ? b : c;
}
