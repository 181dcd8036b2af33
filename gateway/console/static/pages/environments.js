// The environments: in what tasks run, from where, with how much.
import { h, replace, said } from "../dom.js";
import { get, query } from "../api.js";
import { badge, empty, table } from "../widgets.js";

export const title = "Environments";
export const permission = "tasks.read";

export async function render(page) {
  const writes = page.can("tasks.write");
  const { items } = await get("/v1/environments", { signal: page.signal });
  const add = writes && h("a", { class: "button primary", href: "/console/environments/new" }, "New environment");
  if (items.length === 0) return replace(page.body, empty("No environment yet", h("p", {}, "A task runs in an environment: its repository, its set-up and its limits."), add));
  if (writes) page.actions(add);
  replace(page.body, table("Environments", [
    ["Name", (one) => [h("a", { class: "strong", href: `/console/environments/${encodeURIComponent(one.id)}` }, said(one.label)), h("div", { class: "muted mono" }, said(one.id))]],
    ["Repository", (one) => (one.repository ? said(one.repository) : h("span", { class: "muted" }, "none"))],
    ["Set-up may reach", (one) => domains(one.network.setup)],
    ["The agent may reach", (one) => domains(one.network.agent)],
    ["Secrets", (one) => one.secrets.map((name) => badge([name, "off"]))],
    ["Limits", (one) => `${one.limits.cpus} CPU, ${one.limits.memory_mib} MiB, ${Math.round(one.limits.wall_s / 60)} min`],
    writes && ["", (one) => h("a", { class: "button", href: query("/console/tasks/new", { environment: one.id }), "aria-label": `New task in ${one.label}` }, "New task"), "end"],
  ].filter(Boolean), items));
}

function domains({ domains: names }) {
  if (names.length === 0) return h("span", { class: "muted" }, "nothing");
  return [said(names.slice(0, 3).join(", ")), names.length > 3 && h("span", { class: "muted" }, ` and ${names.length - 3} more`)];
}
