// One environment, or a new one: its words, its variables and secrets, what each phase may reach, and its limits.
import { append, h, replace, said } from "../dom.js";
import { at, get, patch, post, query, remove } from "../api.js";
import { button, confirmTyped, empty, facts, field, form, notice, Refused, toast } from "../widgets.js";

export const title = "Environment";
export const permission = "tasks.read";

const LIMITS = [
  ["cpus", "Processors", { min: 0.1, max: 256, step: "any" }], ["memory_mib", "Memory in MiB", { min: 64, step: 1 }], ["pids", "Processes", { min: 16, step: 1 }],
  ["disk_mib", "Disk in MiB", { min: 16, step: 1 }], ["wall_s", "Time in seconds", { min: 1, max: 604800, step: 1 }], ["output_mib", "Output in MiB", { min: 1, max: 1024, step: 1 }],
];
const TEXTS = ["setup_script", "maintenance_script", "test_command"];
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

export async function render(page) {
  const isNew = page.id === "new";
  if (isNew && !page.can("tasks.write")) return replace(page.body, notice("info", "Your role sees environments and does not change them."));
  const free = isNew && page.session.principal.tenant_id === null && page.can("tenants.read");
  const { items: tenants } = free ? await get("/tenants", { signal: page.signal }) : { items: [] };
  if (free && tenants.length === 0) return replace(page.body, empty("No tenant yet", h("p", {}, "An environment belongs to a tenant. Create one first."), h("a", { class: "button primary", href: "/console/tenants" }, "Tenants")));
  const path = at("v1", "environments", page.id);
  const old = isNew ? null : await get(path, { signal: page.signal });
  if (!page.can("tasks.write")) return replace(page.body, shown(old));
  if (!isNew) {
    page.actions(button("Remove", () => confirmTyped({
      title: "Remove the environment", name: old.label, submit: "Remove the environment", text: "Its variables and secrets are deleted. Tasks that ran in it stay; new ones cannot. This cannot be undone.",
      send: async () => { await remove(path); toast("Removed"); await page.go("/console/environments"); },
    }), { class: "danger-text" }));
  }
  const tenant = free && field("Tenant", "tenant", { kind: "select", choices: tenants.map((one) => [one.id, one.name]), value: tenants.find((one) => one.id === page.query.get("tenant"))?.id ?? tenants[0].id });
  const secrets = secretsOf(old?.secrets ?? []);
  replace(page.body, h("div", { class: "panel" }, form({
    submit: isNew ? "Create" : "Save", cancel: h("a", { class: "button", href: "/console/environments" }, "Cancel"),
    fields: [tenant, ...words(old), secrets.element, network(old), limits(old)],
    send: async (data) => {
      const body = { ...bodyOf(data, old), secrets: secrets.read() };
      if (Object.keys(body.secrets).length === 0) delete body.secrets;
      if (isNew) await post(query("/v1/environments", { tenant: free ? data.get("tenant") : "" }), body);
      else await patch(path, { ...body, version: old.version });
      toast(isNew ? "Created" : "Saved. Tasks that run already keep what they began with.");
      await page.go("/console/environments");
    },
  })));
}

function words(old) {
  const script = (label, name, hint, rows = 5) => field(label, name, { kind: "textarea", class: "mono", rows, value: old?.[name], hint, maxlength: 262144 });
  return [
    field("Name", "label", { value: old?.label, required: true, maxlength: 64 }),
    field("Repository", "repository", { value: old?.repository ?? "", maxlength: 2048, placeholder: "https://…", hint: "By https. Tasks may name another one." }),
    field("Image", "image", { value: old?.image ?? "", maxlength: 255, placeholder: "the agent image" }),
    script("Set-up script", "setup_script", "Runs once as root with the internet below; what it leaves is kept for later tasks."),
    script("Maintenance script", "maintenance_script", "Runs when a kept set-up is used again.", 3),
    script("Test command", "test_command", "How the judge sees whether an attempt is good.", 2),
    field("Variables", "variables", { kind: "textarea", class: "mono", rows: 4, value: Object.entries(old?.variables ?? {}).map(([name, value]) => `${name}=${value}`).join("\n"), hint: "One NAME=value a line. Everybody who sees the environment sees them: secrets belong below." }),
  ];
}

// Secrets go in and never come out: of those that are there the names are shown, to be replaced or taken away.
function secretsOf(names) {
  const rows = h("div", { class: "form" });
  const known = names.map((name) => {
    const gone = field("Take away", "", { kind: "checkbox" });
    gone.querySelector("input").setAttribute("aria-label", `Take away ${name}`);
    return [name, gone, h("li", { class: "row" }, said(name, { class: "mono" }), h("span", { class: "muted" }, "is set"), gone)];
  });
  const add = () => {
    const row = h("div", { class: "form inline secret" }, field("Name", "", { maxlength: 128, class: "mono", spellcheck: "false" }), field("Value", "", { kind: "password", autocomplete: "new-password", maxlength: 32768 }),
      button("×", () => row.remove(), { class: "plain", "aria-label": "Leave this secret out" }));
    rows.append(row);
    return row;
  };
  const read = () => {
    const found = {};
    for (const [name, gone] of known) if (gone.querySelector("input").checked) found[name] = null;
    for (const row of rows.children) {
      const [name, value] = [...row.querySelectorAll("input")].map((one) => one.value);
      if (name === "" && value === "") continue;
      if (!NAME.test(name.trim())) throw new Refused(`"${name}" is no name for a secret: letters, digits and _ are.`);
      if (value === "") throw new Refused(`The secret ${name} has no value.`);
      found[name.trim()] = value;
    }
    return found;
  };
  return { read, element: h("fieldset", {}, h("legend", {}, "Secrets"),
    h("p", { class: "hint" }, "They reach the set-up alone, and are never shown again. To replace one, add it under its name."),
    known.length > 0 && h("ul", { class: "files" }, known.map(([, , row]) => row)), rows,
    h("div", { class: "actions" }, button("Add a secret", () => add().querySelector("input").focus()))) };
}

function network(old) {
  const phase = (label, name, hint) => field(label, name, { kind: "textarea", class: "mono", rows: 3, value: old?.network[name].domains.join("\n"), hint });
  return h("fieldset", {}, h("legend", {}, "Internet, by phase"), h("div", { class: "form grid" },
    phase("The set-up may reach", "setup", "One host a line; *.example.com is all below it. Empty: nothing."),
    phase("The agent may reach", "agent", "Empty, and best so: what the agent reads elsewhere can steer it, and what it sees here could leave.")));
}

function limits(old) {
  return h("fieldset", {}, h("legend", {}, "Limits"), h("p", { class: "hint" }, "Empty: the most that this gateway allows."),
    h("div", { class: "form grid" }, LIMITS.map(([name, label, rest]) => field(label, `limits.${name}`, { kind: "number", value: old?.limits[name] ?? "", ...rest }))));
}

function bodyOf(data, old) {
  const body = { label: data.get("label").trim(), variables: variablesOf(data.get("variables")), limits: {} };
  for (const name of TEXTS) body[name] = data.get(name).replace(/\r\n/g, "\n");
  for (const name of ["repository", "image"]) {
    const text = data.get(name).trim();
    if (text || old) body[name] = text || null;
  }
  const phase = (name) => ({ ...(old ? { methods: old.network[name].methods } : {}), domains: data.get(name).split(/[\s,]+/).filter(Boolean) });
  body.network = { setup: phase("setup"), agent: phase("agent") };
  for (const [name] of LIMITS) if (data.get(`limits.${name}`) !== "") body.limits[name] = Number(data.get(`limits.${name}`));
  return body;
}

function variablesOf(text) {
  const found = {};
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === "") continue;
    const at = line.indexOf("=");
    const name = line.slice(0, at).trim();
    if (at < 1 || !NAME.test(name)) throw new Refused(`"${line.slice(0, 60)}" is not NAME=value.`, "variables");
    Object.defineProperty(found, name, { value: line.slice(at + 1), enumerable: true });
  }
  return found;
}

// For those who may not change it.
function shown(one) {
  const made = h("div", { class: "panel" }, h("h2", {}, said(one.label)), notice("info", "Your role sees environments and does not change them."), facts([
    ["Repository", said(one.repository ?? "none")], ["Secrets", said(one.secrets.join(", ") || "none")],
    ["Set-up may reach", said(one.network.setup.domains.join(", ") || "nothing")], ["The agent may reach", said(one.network.agent.domains.join(", ") || "nothing")],
  ]));
  return append(made, TEXTS.filter((name) => one[name]).map((name) => h("details", { open: true }, h("summary", {}, name.replace("_", " ")), h("pre", { tabindex: 0 }, said(one[name])))));
}
