// The log of a task as a terminal would show it, while it comes. What a container says is text and steers nothing:
// escape sequences are taken out, what is left of control characters is shown as a mark.
import { append, h, replace, said, seen } from "../dom.js";
import { get, query } from "../api.js";
import { count } from "../format.js";
import { button } from "../widgets.js";

const PAGE = 500;
const KEPT = 3000;
const LINE_CHARS = 4000;
const LINES_EACH = 200;
// colours, moves of the cursor, titles and links, as far as they are whole; bounded, so that no text makes it slow
const ESCAPES = /\u001b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\u001b[\]PX^_][^\u0007\u001b\n]{0,2000}(?:\u0007|\u001b\\)|\u001b[ -/]{0,4}[0-Z\\^-~]/g;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export function inert(text) {
  return seen(String(text ?? "").replace(ESCAPES, "").replace(/\r\n?/g, "\n"));
}

// { element, pull, behind }: pull fetches what came since; working() says whether more is to come.
export function logOf(page, path, working) {
  let after = 0, follows = true, left = 0, more = false, busy = null;
  const lines = h("div", { class: "terminal", role: "log", "aria-live": "off", "aria-label": "Log", tabindex: 0 });
  const cut = h("p", { class: "muted", hidden: true });
  const stand = h("span", { class: "muted", role: "status" });
  const attempt = h("select", { "aria-label": "Attempt", onchange: () => { lines.dataset.attempt = attempt.value; hide(lines.children); bottom(); } }, h("option", { value: "" }, "Every attempt"));
  const follow = button("Stop following", () => {
    follows = !follows;
    follow.textContent = follows ? "Stop following" : "Follow";
    if (follows) pull();
    told();
  }, { "data-act": "follow" });
  lines.addEventListener("wheel", (event) => { if (event.deltaY < 0 && follows && working()) follow.click(); }, { passive: true });

  const bottom = () => { if (follows) lines.scrollTop = lines.scrollHeight; };
  const hide = (nodes) => { for (const node of nodes) node.hidden = attempt.value !== "" && node.dataset.attempt !== attempt.value && node.dataset.attempt !== "0"; };
  const told = () => { follow.hidden = !working(); stand.textContent = working() ? (follows ? "Live" : "Stopped; nothing new is shown") : "The task is over"; };

  async function pull() {
    if (!follows) return told();
    busy ??= take().finally(() => { busy = null; });
    await busy;
  }

  async function take() {
    do {
      const { items, next_after: next } = await get(query(path, { after: after || "", limit: PAGE }), { signal: page.signal });
      const made = items.map(lineOf);
      for (const one of items) known(one.attempt);
      hide(made);
      append(lines, made);
      more = items.length === PAGE && next > after;
      after = Math.max(after, next);
      while (lines.childElementCount > KEPT) { lines.firstElementChild.remove(); left++; }
      cut.hidden = left === 0;
      cut.textContent = `${count(left)} earlier lines are not shown here; the attempt's events.jsonl has them all.`;
    } while (more && follows && !page.signal.aborted);
    if (lines.childElementCount === 0 && !working()) replace(lines, h("div", { class: "muted" }, "Nothing was logged."));
    told();
    bottom();
  }

  function known(number) {
    if (number === 0 || [...attempt.options].some((one) => one.value === String(number))) return;
    attempt.append(h("option", { value: String(number) }, `Attempt ${number}`));
  }

  told();
  return {
    pull, behind: () => more,
    element: [h("div", { class: "panel-head" }, h("h2", {}, "Log"), h("span", { class: "row" }, stand, attempt, follow)), cut, lines],
  };
}

function lineOf(item) {
  const [text, kind] = wordsOf(item);
  const shown = text.split("\n");
  const body = shown.slice(0, LINES_EACH).map((line) => (line.length > LINE_CHARS ? `${line.slice(0, LINE_CHARS)} … ${count(line.length - LINE_CHARS)} more characters` : line)).join("\n")
    + (shown.length > LINES_EACH ? `\n… ${count(shown.length - LINES_EACH)} more lines` : "");
  return h("div", { class: `log-line ${kind}`, "data-attempt": item.attempt },
    h("time", { class: "log-time" }, clock.format(new Date(item.at_s * 1000))),
    h("span", { class: "log-source" }, seen(item.attempt > 0 ? `${item.attempt} ${item.source}` : item.source)),
    said(body, { class: "log-text" }));
}

// What a line says, and how it is set off: command, output, message, bad, or plain.
function wordsOf({ kind, data }) {
  const item = data?.item;
  if (typeof item === "object" && item !== null) return ofItem(kind, item);
  if (typeof data?.text === "string") return [inert(data.text).replace(/\n$/, ""), kind.endsWith(".output") || kind.endsWith(".text") ? "output" : "plain"];
  const fault = data?.error?.message ?? data?.message ?? data?.reason;
  if (/failed|error|fault|refused/.test(kind)) return [inert(`${kind} ${typeof fault === "string" ? fault : rest(data)}`), "bad"];
  return [inert(`${kind} ${rest(data)}`.trimEnd()), "plain"];
}

function ofItem(kind, item) {
  const begun = kind.endsWith(".started") || kind.endsWith(".updated");
  const text = typeof item.text === "string" ? inert(item.text) : "";
  if (item.type === "command_execution") {
    const output = begun ? "" : inert(item.aggregated_output).replace(/\n$/, "");
    return [begun ? inert(`$ ${item.command ?? ""}`) : `${output}${output ? "\n" : ""}exit ${inert(item.exit_code ?? "?")}`, begun ? "command" : item.exit_code === 0 ? "output" : "bad"];
  }
  if (item.type === "file_change" && Array.isArray(item.changes)) return [item.changes.slice(0, LINES_EACH).map((one) => inert(`${one?.kind ?? "change"} ${one?.path ?? ""}`)).join("\n"), "command"];
  if (item.type === "agent_message") return [text, "message"];
  if (item.type === "error") return [inert(item.message), "bad"];
  return [text || inert(`${kind} ${rest(item)}`), "plain"];
}

function rest(data) {
  const pairs = Object.entries(data ?? {}).filter(([, value]) => value !== null && value !== "");
  return pairs.map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ").slice(0, 2 * LINE_CHARS);
}
