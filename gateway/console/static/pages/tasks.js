// The tasks, newest first: who asked for what, where each one stands, and what it changed. Renews itself.
import { h, replace, said } from "../dom.js";
import { get, query } from "../api.js";
import { count, when } from "../format.js";
import { ENDS, TASK_STATES } from "../words.js";
import { act, badge, button, empty, table } from "../widgets.js";

export const title = "Tasks";
export const permission = "tasks.read";

const PAGE = 50;
const ARCHIVED = [["no", "Not archived"], ["yes", "Archived"], ["all", "All"]];

export async function render(page) {
  const list = h("div", {});
  const turn = h("div", { class: "actions" });
  const asked = { state: "", environment: "", archived: "no", tenant: "" };
  let back = []; // where the pages before this one began
  let before = "";
  let drawn = "";
  const labels = new Map();

  const choice = (name, label, choices) => {
    const chosen = page.query.get(name) ?? asked[name];
    const input = h("select", { "aria-label": label, onchange: () => act(input, async () => { asked[name] = input.value; back = []; before = ""; noted(); await load(); }) },
      choices.map(([key, text]) => h("option", { value: key }, said(text).textContent)));
    input.value = choices.some(([key]) => key === chosen) ? chosen : asked[name];
    asked[name] = input.value;
    return input;
  };

  // The filters stand in the address, so that a list can be loaded again or sent to somebody.
  function noted() {
    history.replaceState(null, "", query("/console/tasks", { ...asked, archived: asked.archived === "no" ? "" : asked.archived }));
  }

  async function load() {
    const path = query("/v1/tasks", { ...asked, archived: asked.archived === "no" ? "" : asked.archived, before, limit: PAGE });
    const { items, next_before: next } = await get(path, { signal: page.signal });
    const now = JSON.stringify([items, next, back]);
    if (now === drawn) return;
    drawn = now;
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    replace(list, items.length > 0 ? listed(items, labels) : nothing(page, asked));
    if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    replace(turn,
      back.length > 0 && button("Newer", () => act(turn, () => { before = back.at(-1); back = back.slice(0, -1); return load(); })),
      next !== null && button("Older", () => act(turn, () => { back = [...back, before]; before = next; return load(); })));
  }

  const { items: environments } = await get("/v1/environments", { signal: page.signal });
  for (const one of environments) labels.set(one.id, one.label);
  const everybody = page.session.principal.tenant_id === null && page.can("tenants.read");
  const { items: tenants } = everybody ? await get("/tenants", { signal: page.signal }) : { items: [] };
  const filters = h("div", { class: "filters", role: "search" },
    choice("state", "State", [["", "Every state"], ...Object.entries(TASK_STATES).map(([key, [name]]) => [key, name])]),
    choice("environment", "Environment", [["", "Every environment"], ...environments.map((one) => [one.id, one.label])]),
    everybody && tenants.length > 1 && choice("tenant", "Tenant", [["", "Every tenant"], ...tenants.map((one) => [one.id, one.name])]),
    choice("archived", "Archived", ARCHIVED));
  await load();
  if (page.can("tasks.write")) page.actions(h("a", { class: "button primary", href: "/console/tasks/new" }, "New task"));
  replace(page.body, filters, list, turn);
  page.every(3, load);
}

function nothing(page, asked) {
  if (asked.state || asked.environment || asked.tenant || asked.archived !== "no") {
    return empty("No task fits", h("p", {}, "Widen the filters to see more."));
  }
  return empty("No task yet", h("p", {}, "Say what is to be done in which repository; an agent does it in a container, and you get the diff to review."),
    page.can("tasks.write") && h("a", { class: "button primary", href: "/console/tasks/new" }, "New task"));
}

function listed(items, labels) {
  return table("Tasks", [
    ["Task", (one) => [
      h("a", { class: "strong", href: `/console/tasks/${encodeURIComponent(one.id)}` }, said(one.title || one.id)),
      h("div", { class: "muted" }, said(labels.get(one.environment_id) ?? one.environment_id), " · ", said(one.model)),
    ], "task-title"],
    ["State", (one) => [badge(TASK_STATES[one.state] ?? [one.state, "off"]), one.archived && badge(["Archived", "off"]),
      one.ended && one.ended !== "done" && one.ended !== one.state && h("div", { class: "muted" }, ENDS[one.ended] ?? said(one.ended))]],
    ["Attempts", (one) => attempts(one), "num"],
    ["Change", (one) => change(best(one))],
    ["Asked by", (one) => said(one.created_by)],
    ["Updated", (one) => when(one.updated_at_s)],
  ], items);
}

function attempts(task) {
  const ended = task.attempts.filter((one) => one.state === "ended").length;
  return task.attempts.length > 1 && ended < task.attempts.length ? `${ended} of ${task.attempts.length}` : String(task.attempts.length);
}

export function best(task) {
  return task.attempts.find((one) => one.number === task.chosen) ?? task.attempts.find((one) => one.rank === 1) ?? null;
}

// Lines added and removed, told apart by their signs and not by colour alone.
export function change(attempt) {
  if (attempt === null || attempt.files_changed === 0) return h("span", { class: "muted" }, attempt === null ? "–" : "nothing");
  return h("span", { class: "change" }, h("span", { class: "plus" }, `+${count(attempt.lines_added)}`), " ",
    h("span", { class: "minus" }, `−${count(attempt.lines_removed)}`), h("span", { class: "muted" }, ` in ${count(attempt.files_changed)} ${attempt.files_changed === 1 ? "file" : "files"}`));
}
