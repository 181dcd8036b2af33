// The attempts of a task, side by side: how each one ended, how the judge ranks it and why, what it cost and left.
import { h, said, seen } from "../dom.js";
import { at } from "../api.js";
import { compact, count } from "../format.js";
import { ENDS } from "../words.js";
import { badge, button, facts } from "../widgets.js";
import { change } from "./tasks.js";

const STATES = { __proto__: null, queued: ["Waiting", "off"], leased: ["Running", "warn"], ended: ["Ended", "off"] };
const SHORT = { __proto__: null, done: ["Done", "good"], cancelled: ["Cancelled", "off"] };

// pick(number): show the diff of that one.
export function cards(task, path, shown, pick) {
  const inOrder = [...task.attempts].sort((a, b) => a.number - b.number);
  return h("ul", { class: "attempts" }, inOrder.map((one) => card(task, one, path, one.number === shown, pick)));
}

function card(task, one, path, shown, pick) {
  const files = task.files.filter((file) => file.attempt === one.number);
  const name = `Attempt ${one.number}`;
  const state = one.ended ? SHORT[one.ended] ?? ["Failed", "bad"] : STATES[one.state] ?? [one.state, "off"];
  return h("li", { class: shown ? "attempt shown" : "attempt" },
    h("div", { class: "panel-head" }, h("h3", {}, name),
      h("span", { class: "row tight" },
        task.chosen === one.number && badge(["Chosen", "good"]),
        one.rank !== null && badge([`Rank ${one.rank}`, one.rank === 1 ? "good" : "off"]), badge(state))),
    one.ended && one.ended !== "done" && h("p", { class: "bad-text" }, ENDS[one.ended] ?? said(one.ended)),
    one.reasons.length > 0 && h("ul", { class: "reasons", "aria-label": `Why attempt ${one.number} has its rank` }, one.reasons.map((text) => h("li", {}, said(text)))),
    facts([
      ["Change", one.state === "ended" ? change(one) : "–"],
      ["Tests", one.tests_passed === null ? h("span", { class: "muted" }, "not run") : badge(one.tests_passed ? ["Pass", "good"] : ["Fail", "bad"])],
      ["In / out", h("span", { title: `${count(one.usage.input_tokens)} input tokens, ${count(one.usage.output_tokens)} output tokens` }, `${compact(one.usage.input_tokens)} / ${compact(one.usage.output_tokens)} tokens`)],
      one.worker && ["Worker", said(one.worker)],
    ]),
    one.message && h("details", {}, h("summary", {}, "Its last words"), h("pre", { tabindex: 0 }, said(one.message))),
    files.length > 0 && h("details", {}, h("summary", {}, `${files.length} ${files.length === 1 ? "file" : "files"}`),
      h("ul", { class: "files" }, files.map((file) => h("li", {}, download(file, path), file.size_bytes !== null && h("span", { class: "muted" }, ` ${size(file.size_bytes)}`))))),
    files.some((file) => file.name === "diff.patch") && h("div", { class: "actions" },
      button(shown ? "Its diff is shown" : "Show its diff", () => pick(one.number), { "aria-pressed": String(shown), "aria-label": `Show the diff of attempt ${one.number}`, "data-act": `diff-${one.number}` })));
}

// The server sends files as attachments that no browser runs; the name here is only a proposal for the disk.
function download(file, path) {
  const parts = file.name.split("/");
  const href = `${path("attempts", String(file.attempt), "files")}${at(...parts)}`;
  return h("a", { href, download: seen(parts.at(-1)).replace(/[^\w.-]/g, "_"), rel: "noopener" }, said(file.name));
}

export function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
