// A unified diff as it can be read: by file, with the numbers of lines, with colours. It is untrusted text all over.
import { append, h, replace, said, seen } from "../dom.js";
import { get, query } from "../api.js";
import { count } from "../format.js";
import { explain } from "../words.js";
import { loading, notice } from "../widgets.js";
import { kindOf, parts } from "./task_syntax.js";

const READ_BYTES = 2 * 1024 * 1024;
const LINES = 4000;
const LINE_CHARS = 1000;

// Puts the diff of an attempt into element, or says why not.
export async function diffOf(page, element, path, attempt, file) {
  const mine = loading("Reading the diff");
  replace(element, mine);
  let made;
  try {
    const { text, cut } = await get(query(path, { attempt }), { signal: page.signal, headers: { accept: "text/x-diff" }, read: beginning });
    made = drawn(text, cut, file);
  } catch (error) {
    if (error.name === "AbortError") return;
    made = [notice("bad", said(explain(error)))];
  }
  if (mine.isConnected) replace(element, h("h2", {}, `Diff of attempt ${attempt}`), made); // else another one was picked
}

// At most so many bytes are read; what comes after them is not even fetched.
async function beginning(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "", seenBytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), cut: false };
    seenBytes += value.length;
    text += decoder.decode(value, { stream: true });
    if (seenBytes > READ_BYTES) {
      await reader.cancel();
      return { text, cut: true };
    }
  }
}

function drawn(text, cut, file) {
  if (text.trim() === "") return [h("p", { class: "muted" }, "Nothing was changed.")];
  const files = read(text);
  const total = files.reduce((sum, one) => sum + one.lines.length, 0);
  let left = LINES;
  const nodes = [];
  for (const one of files) {
    if (left <= 0) break;
    nodes.push(fileOf(one, one.lines.slice(0, left)));
    left -= Math.max(1, one.lines.length);
  }
  if (cut || total > LINES || nodes.length < files.length) {
    nodes.push(notice("warn", cut ? "The diff is longer than a page can show. " : `${count(Math.max(0, total - LINES))} more lines are not shown. `,
      h("a", { href: file, download: "diff.patch" }, "Download the whole diff")));
  }
  return nodes;
}

// [{ path, head: [text], lines: [[kind, old number, new number, text]], added, removed }]
export function read(text) {
  const files = [];
  let file = null, oldAt = 0, newAt = 0, oldLeft = 0, newLeft = 0;
  const open = () => { file = { path: "", head: [], lines: [], added: 0, removed: 0 }; files.push(file); };
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const line of lines) {
    if (oldLeft > 0 || newLeft > 0) {
      const sign = line[0] ?? " ";
      if (sign === "+") { file.lines.push(["added", null, newAt++, line.slice(1)]); newLeft--; file.added++; continue; }
      if (sign === "-") { file.lines.push(["removed", oldAt++, null, line.slice(1)]); oldLeft--; file.removed++; continue; }
      if (sign === " ") { file.lines.push(["same", oldAt++, newAt++, line.slice(1)]); oldLeft--; newLeft--; continue; }
      if (sign === "\\") { file.lines.push(["note", null, null, line]); continue; }
      oldLeft = newLeft = 0;
    }
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(line);
    if (hunk) {
      if (file === null) open();
      [oldAt, newAt] = [Number(hunk[1]), Number(hunk[3])];
      [oldLeft, newLeft] = [Number(hunk[2] ?? 1), Number(hunk[4] ?? 1)];
      file.lines.push(["hunk", null, null, line]);
    } else if (line.startsWith("\\") && file !== null) file.lines.push(["note", null, null, line]);
    else head(line);
  }
  return files;

  function head(line) {
    if (file === null || line.startsWith("diff --git ") || (line.startsWith("--- ") && file.lines.length > 0)) open();
    const named = /^(?:\+\+\+ b\/|rename to |--- a\/)(.*?)\t?$/.exec(line);
    if (named && (file.path === "" || !line.startsWith("--- "))) file.path = named[1];
    else if (file.path === "" && line.startsWith("diff --git ")) file.path = / b\/(.*)$/.exec(line)?.[1] ?? "";
    if (!/^(?:diff --git|index |--- |\+\+\+ )/.test(line)) file.head.push(line);
  }
}

function fileOf(file, lines) {
  const kind = kindOf(file.path);
  const name = file.path || "The diff";
  return h("details", { class: "diff-file", open: true },
    h("summary", {}, said(name, { class: "mono strong" }), " ", h("span", { class: "change" }, h("span", { class: "plus" }, `+${count(file.added)}`), " ", h("span", { class: "minus" }, `−${count(file.removed)}`))),
    file.head.length > 0 && h("pre", { class: "diff-head muted" }, said(file.head.slice(0, 20).map(short).join("\n"))),
    lines.length > 0 && h("div", { class: "diff", role: "region", "aria-label": `Diff of ${seen(name)}`, tabindex: 0 },
      h("div", { class: "diff-lines" }, lines.map((line) => lineOf(line, kind)))));
}

const SIGNS = { __proto__: null, added: "+", removed: "-", same: " ", hunk: " ", note: " " };

function lineOf([kind, oldAt, newAt, text], syntax) {
  const body = h("code", { dir: "ltr" });
  const shown = short(text).replace(/\r$/, "␍");
  if (kind === "hunk" || kind === "note") append(body, [seen(shown)]);
  else append(body, parts(shown, syntax).map(([name, part]) => (name === null ? seen(part) : h("span", { class: `tok-${name}` }, seen(part)))));
  return h("div", { class: `line ${kind}` },
    h("span", { class: "no", "data-no": oldAt ?? "" }), h("span", { class: "no", "data-no": newAt ?? "" }),
    h("span", { class: "sign" }, SIGNS[kind]), body);
}

function short(text) {
  return text.length <= LINE_CHARS ? text : `${text.slice(0, LINE_CHARS)} … ${count(text.length - LINE_CHARS)} more characters`;
}
