// How is a short text drawn as a QR code? ISO/IEC 18004, byte mode, correction level M, versions 1 to 10 (213 bytes).
// Longer texts get none: the text itself stands beside it anyway.
import { h, s } from "./dom.js";

// version -> [correction bytes of a block, [[blocks, data bytes of each]...], centres of alignment patterns]
const VERSIONS = [
  null,
  [10, [[1, 16]], []],
  [16, [[1, 28]], [6, 18]],
  [26, [[1, 44]], [6, 22]],
  [18, [[2, 32]], [6, 26]],
  [24, [[2, 43]], [6, 30]],
  [16, [[4, 27]], [6, 34]],
  [18, [[4, 31]], [6, 22, 38]],
  [22, [[2, 38], [2, 39]], [6, 24, 42]],
  [22, [[3, 36], [2, 37]], [6, 26, 46]],
  [26, [[4, 43], [1, 44]], [6, 28, 50]],
];

const EXP = new Uint8Array(512);
const LOG = new Uint8Array(256);
for (let power = 0, value = 1; power < 255; power++) {
  EXP[power] = EXP[power + 255] = value;
  LOG[value] = power;
  value = (value << 1) ^ (value & 0x80 ? 0x11d : 0);
}
const times = (a, b) => (a && b ? EXP[LOG[a] + LOG[b]] : 0);

const MASKS = [
  (r, c) => (r + c) % 2 === 0,
  (r) => r % 2 === 0,
  (r, c) => c % 3 === 0,
  (r, c) => (r + c) % 3 === 0,
  (r, c) => (Math.floor(r / 2) + Math.floor(c / 3)) % 2 === 0,
  (r, c) => ((r * c) % 2) + ((r * c) % 3) === 0,
  (r, c) => (((r * c) % 2) + ((r * c) % 3)) % 2 === 0,
  (r, c) => (((r + c) % 2) + ((r * c) % 3)) % 2 === 0,
];

// The picture as an SVG, or nothing when the text is too long.
export function qrCode(text, label) {
  const rows = modules(text);
  if (rows === null) return null;
  const size = rows.length + 8;
  let path = "";
  rows.forEach((row, r) => row.forEach((dark, c) => { if (dark) path += `M${c + 4} ${r + 4}h1v1h-1z`; }));
  return h("div", { class: "qr" }, s("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `QR code: ${label}`, "shape-rendering": "crispEdges" },
    s("rect", { width: size, height: size, fill: "#fff" }), s("path", { d: path, fill: "#000" })));
}

// Rows of booleans, dark is true; null when the text is too long.
export function modules(text) {
  const bytes = new TextEncoder().encode(text);
  const version = VERSIONS.findIndex((one, v) => one && capacity(v) * 8 >= 4 + (v < 10 ? 8 : 16) + bytes.length * 8);
  if (version < 1) return null;
  const bits = placed(encoded(bytes, version));
  let best = null;
  for (let mask = 0; mask < 8; mask++) {
    const drawn = draw(version, bits, mask);
    const cost = penalty(drawn);
    if (best === null || cost < best.cost) best = { cost, drawn };
  }
  return best.drawn;
}

function capacity(version) {
  return VERSIONS[version][1].reduce((sum, [blocks, size]) => sum + blocks * size, 0);
}

function encoded(bytes, version) {
  const bits = [];
  const put = (value, length) => { for (let at = length - 1; at >= 0; at--) bits.push((value >> at) & 1); };
  put(4, 4);
  put(bytes.length, version < 10 ? 8 : 16);
  for (const byte of bytes) put(byte, 8);
  const room = capacity(version) * 8;
  put(0, Math.min(4, room - bits.length));
  while (bits.length % 8) bits.push(0);
  const data = [];
  for (let at = 0; at < bits.length; at += 8) data.push(parseInt(bits.slice(at, at + 8).join(""), 2));
  for (let pad = 0; data.length < room / 8; pad++) data.push(pad % 2 ? 0x11 : 0xec);
  const [correction, groups] = VERSIONS[version];
  const blocks = [];
  let at = 0;
  for (const [number, size] of groups) for (let one = 0; one < number; one++) blocks.push(data.slice(at, (at += size)));
  const checks = blocks.map((block) => remainder(block, correction));
  const out = [];
  for (let n = 0; n < Math.max(...blocks.map((block) => block.length)); n++) for (const block of blocks) if (n < block.length) out.push(block[n]);
  for (let n = 0; n < correction; n++) for (const check of checks) out.push(check[n]);
  return out;
}

// Reed-Solomon: the remainder by the generator of the given degree.
function remainder(block, degree) {
  let generator = [1];
  for (let n = 0; n < degree; n++) {
    const next = [...generator, 0];
    generator.forEach((factor, at) => { next[at + 1] ^= times(factor, EXP[n]); });
    generator = next;
  }
  const rest = [...block, ...new Array(degree).fill(0)];
  for (let at = 0; at < block.length; at++) {
    const lead = rest[at];
    if (lead) generator.forEach((factor, n) => { rest[at + n] ^= times(factor, lead); });
  }
  return rest.slice(block.length);
}

const placed = (bytes) => bytes.flatMap((byte) => [7, 6, 5, 4, 3, 2, 1, 0].map((at) => (byte >> at) & 1));

function draw(version, bits, mask) {
  const size = version * 4 + 17;
  const grid = Array.from({ length: size }, () => new Array(size).fill(null));
  const set = (r, c, dark) => { if (r >= 0 && c >= 0 && r < size && c < size) grid[r][c] = dark; };
  for (const [top, left] of [[0, 0], [0, size - 7], [size - 7, 0]]) {
    for (let r = -1; r <= 7; r++) for (let c = -1; c <= 7; c++) {
      const away = Math.max(Math.abs(r - 3), Math.abs(c - 3));
      set(top + r, left + c, away !== 2 && away !== 4);
    }
  }
  const centres = VERSIONS[version][2];
  const last = centres.at(-1);
  for (const r of centres) for (const c of centres) {
    if ((r === 6 && c === 6) || (r === 6 && c === last) || (r === last && c === 6)) continue;
    for (let y = -2; y <= 2; y++) for (let x = -2; x <= 2; x++) set(r + y, c + x, Math.max(Math.abs(y), Math.abs(x)) !== 1);
  }
  for (let at = 8; at < size - 8; at++) {
    set(6, at, at % 2 === 0);
    set(at, 6, at % 2 === 0);
  }
  formats(set, size, mask);
  if (version >= 7) versions(set, size, version);
  fill(grid, bits, MASKS[mask]);
  return grid;
}

function formats(set, size, mask) {
  let rest = mask << 10; // level M is 00
  for (let at = 14; at >= 10; at--) if ((rest >> at) & 1) rest ^= 0x537 << (at - 10);
  const code = ((mask << 10) | rest) ^ 0x5412;
  for (let at = 0; at < 15; at++) {
    const dark = ((code >> at) & 1) === 1;
    if (at < 6) set(at, 8, dark);
    else if (at < 8) set(at + 1, 8, dark);
    else set(8, at === 8 ? 7 : 14 - at, dark);
    if (at < 8) set(8, size - 1 - at, dark);
    else set(size - 15 + at, 8, dark);
  }
  set(size - 8, 8, true);
}

function versions(set, size, version) {
  let rest = version << 12;
  for (let at = 17; at >= 12; at--) if ((rest >> at) & 1) rest ^= 0x1f25 << (at - 12);
  const code = (version << 12) | rest;
  for (let at = 0; at < 18; at++) {
    const dark = ((code >> at) & 1) === 1;
    set(Math.floor(at / 3), size - 11 + (at % 3), dark);
    set(size - 11 + (at % 3), Math.floor(at / 3), dark);
  }
}

// Two columns at a time from the right, up and down in turn, over what is still free.
function fill(grid, bits, masked) {
  const size = grid.length;
  let next = 0;
  let up = true;
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right = 5;
    for (let n = 0; n < size; n++) {
      const r = up ? size - 1 - n : n;
      for (const c of [right, right - 1]) {
        if (grid[r][c] === null) grid[r][c] = ((bits[next++] ?? 0) === 1) !== masked(r, c);
      }
    }
    up = !up;
  }
}

function penalty(grid) {
  const size = grid.length;
  let cost = 0;
  const lines = [...grid, ...grid.map((_, c) => grid.map((row) => row[c]))];
  for (const line of lines) {
    const text = line.map((dark) => (dark ? "1" : "0")).join("");
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) cost += run.length - 2;
    for (let at = 0; at + 11 <= size; at++) {
      const part = text.slice(at, at + 11);
      if (part === "10111010000" || part === "00001011101") cost += 40;
    }
  }
  for (let r = 1; r < size; r++) for (let c = 1; c < size; c++) {
    const dark = grid[r][c];
    if (dark === grid[r - 1][c] && dark === grid[r][c - 1] && dark === grid[r - 1][c - 1]) cost += 3;
  }
  const share = (grid.flat().filter(Boolean).length * 100) / (size * size);
  return cost + Math.floor(Math.abs(share - 50) / 5) * 10;
}
