// One task: what was asked, its attempts side by side, the diff and the log of each, and what shall become of it.
import { h, replace, said, seen } from "../dom.js";
import { at, get } from "../api.js";
import { when } from "../format.js";
import { ENDS, TASK_STATES } from "../words.js";
import { badge, facts, newId, notice } from "../widgets.js";
import { best } from "./tasks.js";
import { actsOf } from "./task_acts.js";
import { cards } from "./task_attempts.js";
import { diffOf } from "./task_diff.js";
import { logOf } from "./task_log.js";

export const title = "Task";
export const permission = "tasks.read";

export const WORKED_ON = ["created", "queued", "setting_up", "running"];
const LOOK_S = 1;
const LAST_LOOKS = 3; // the last lines are written after the state that ends a task

export async function render(page) {
  const path = (...more) => at("v1", "tasks", page.id, ...more);
  const head = h("div", { class: "panel" });
  const side = h("section", { "aria-label": "Attempts" });
  const diff = h("div", { class: "panel", role: "tabpanel", tabindex: -1, id: newId() });
  const logPanel = h("div", { class: "panel", role: "tabpanel", tabindex: -1, id: newId() });
  const environments = await get("/v1/environments", { signal: page.signal }).then(({ items }) => items, () => []);
  let task = await get(path(), { signal: page.signal });
  let drawn = "";
  let shown = null; // the attempt whose diff is shown; null: the best one
  let diffDrawn = "";

  const log = logOf(page, path("log"), () => WORKED_ON.includes(task.state));
  const tabs = tabbed([["Diff", diff], ["Log", logPanel]], (panel) => { if (panel === logPanel) log.pull(); });
  const pick = (number) => { shown = number; draw(true); tabs.choose(diff); };

  function draw(force = false) {
    const now = JSON.stringify(task);
    if (now === drawn && !force) return;
    if (drawn !== "" && now !== drawn) told(task);
    drawn = now;
    const where = document.activeElement?.dataset?.act;
    replace(head, header(task, environments), page.can("tasks.write") && actsOf(page, task, path, took));
    replace(side, cards(task, path, current()?.number ?? null, pick));
    if (where && !document.activeElement?.dataset?.act) page.body.querySelector(`[data-act="${CSS.escape(where)}"]`)?.focus();
    drawDiff();
  }

  const current = () => task.attempts.find((one) => one.number === shown) ?? best(task) ?? task.attempts.find((one) => hasDiff(task, one.number)) ?? null;

  function drawDiff() {
    const attempt = current();
    const key = attempt === null ? "" : `${attempt.number} ${attempt.state} ${hasDiff(task, attempt.number)}`;
    if (key === diffDrawn && diff.childElementCount > 0) return;
    diffDrawn = key;
    if (attempt === null || !hasDiff(task, attempt.number)) {
      return replace(diff, h("p", { class: "muted" }, WORKED_ON.includes(task.state) ? "There is no diff yet; it comes when an attempt has ended." : "There is no diff."));
    }
    diffOf(page, diff, path("diff"), attempt.number, path("attempts", String(attempt.number), "files", "diff.patch"));
  }

  function took(changed) {
    task = changed;
    shown = null;
    draw();
  }

  const look = async () => { task = await get(path(), { signal: page.signal }); draw(); };
  document.title = `${seen(task.title)} · codex-relay`;
  replace(logPanel, log.element);
  draw();
  replace(page.body, head, side, h("div", { class: "panels" }, tabs.list, diff, logPanel));
  tabs.choose(WORKED_ON.includes(task.state) ? logPanel : diff, false);
  await log.pull();
  let still = WORKED_ON.includes(task.state) ? 0 : LAST_LOOKS;
  page.every(LOOK_S, async () => {
    await look();
    still = WORKED_ON.includes(task.state) ? 0 : still + 1;
    if (still <= LAST_LOOKS || log.behind()) await log.pull();
  });
}

const hasDiff = (task, number) => task.files.some((one) => one.attempt === number && one.name === "diff.patch");

function told(task) {
  document.getElementById("live").textContent = seen(`The task: ${(TASK_STATES[task.state] ?? [task.state])[0]}`);
}

function header(task, environments) {
  const label = environments.find((one) => one.id === task.environment_id)?.label ?? task.environment_id;
  const review = task.review;
  return [
    h("div", { class: "panel-head" }, h("h2", {}, said(task.title || task.id)),
      h("span", { class: "row tight" }, badge(TASK_STATES[task.state] ?? [task.state, "off"]), task.archived && badge(["Archived", "off"]))),
    task.ended && task.ended !== "done" && h("div", {}, notice(task.state === "cancelled" ? "info" : "bad", ENDS[task.ended] ?? said(task.ended), ".")),
    facts([
      ["Environment", said(label)],
      ["Model", said(task.model)],
      ["Asked by", said(task.created_by), ", ", when(task.created_at_s)],
      ["Updated", when(task.updated_at_s)],
      review?.claimed_by && ["Reviewed by", said(review.claimed_by)],
      review?.approved_by.length > 0 && ["Approved by", said(review.approved_by.join(", ")), task.chosen !== null && `, attempt ${task.chosen}`],
      review?.rejected_by && ["Rejected by", said(review.rejected_by), review.reason && [": ", said(review.reason)]],
      ["Id", said(task.id, { class: "mono" })],
    ]),
    h("details", { class: "prompt", open: task.prompt.length < 600 }, h("summary", {}, "What was asked"), h("pre", { tabindex: 0 }, said(task.prompt))),
  ];
}

// Tabs that move by arrows; chosen(panel) hears which one is shown.
function tabbed(pairs, chosen) {
  const tabs = pairs.map(([name, panel]) => h("button", {
    type: "button", role: "tab", id: newId(), "aria-controls": panel.id, onclick: () => choose(panel),
  }, name));
  const choose = (wanted, hear = true, focus = false) => {
    pairs.forEach(([, panel], index) => {
      const on = panel === wanted;
      panel.hidden = !on;
      panel.setAttribute("aria-labelledby", tabs[index].id);
      tabs[index].setAttribute("aria-selected", String(on));
      tabs[index].tabIndex = on ? 0 : -1;
      if (on && focus) tabs[index].focus();
    });
    if (hear) chosen(wanted);
  };
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": "What to see of it", onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
    choose(pairs[(now + step + pairs.length) % pairs.length][1], true, true);
    event.preventDefault();
  } }, tabs);
  return { list, choose };
}
