// The keys that clients call the gateway with. A key is shown once, when it is made; afterwards only its record is.
import { h, replace, said } from "../dom.js";
import { at, get, post, query, remove } from "../api.js";
import { nowS, when } from "../format.js";
import { SCOPES } from "../words.js";
import { ask, badge, button, copyable, dialog, empty, field, form, notice, Refused, table, toast } from "../widgets.js";

export const title = "Keys";
export const permission = "keys.read";

const LIVES = [["", "Never ends"], ["86400", "1 day"], ["604800", "7 days"], ["2592000", "30 days"], ["7776000", "90 days"], ["31536000", "1 year"]];

export async function render(page) {
  const writes = page.can("keys.write");
  const { items: tenants } = page.can("tenants.read") ? await get("/tenants", { signal: page.signal }) : { items: [] };
  const names = new Map(tenants.map((one) => [one.id, one.name]));
  const chosen = h("select", { "aria-label": "Tenant", onchange: () => load() }, h("option", { value: "" }, "Every tenant"), tenants.map((one) => h("option", { value: one.id }, one.name)));
  const list = h("div", {});
  const load = async () => {
    const { items } = await get(query("/keys", { tenant: chosen.value }), { signal: page.signal });
    replace(list, items.length === 0 ? empty("No key", h("p", {}, "Clients are refused without one.")) : listed(items, names, writes, load));
  };
  await load();
  replace(page.body, h("div", { class: "filters" }, chosen), list);
  if (writes) {
    page.actions(button("Create a key", () => (tenants.length === 0 ? toast("Create a tenant first: a key belongs to one", "bad") : create(page, tenants, chosen.value, load)), { class: "primary" }));
  }
}

function state(one) {
  if (one.revoked_at_s !== null) return badge(["Revoked", "off"]);
  if (one.expires_at_s !== null && one.expires_at_s < nowS()) return badge(["Expired", "off"]);
  return badge(["Works", "good"]);
}

function listed(items, names, writes, load) {
  return table("Keys", [
    ["Key", (one) => [h("div", { class: "strong" }, said(one.name || "unnamed")), h("div", { class: "muted mono" }, said(one.id))]],
    ["Tenant", (one) => said(names.get(one.tenant_id) ?? one.tenant_id)],
    ["May", (one) => one.scopes.map((scope) => badge([scope, "off"]))],
    ["Models", (one) => (one.models.length === 0 ? h("span", { class: "muted" }, "all") : said(one.models.join(", ")))],
    ["Limits", (one) => {
      const parts = [one.limits?.requests_per_minute && `${one.limits.requests_per_minute} a minute`, one.limits?.concurrent_streams && `${one.limits.concurrent_streams} streams`].filter(Boolean);
      return parts.length ? parts.join(", ") : h("span", { class: "muted" }, "the tenant's");
    }],
    ["Ends", (one) => (one.expires_at_s === null ? h("span", { class: "muted" }, "never") : when(one.expires_at_s))],
    ["State", state],
    ["Created", (one) => when(one.created_at_s)],
    writes && ["", (one) => one.revoked_at_s === null && button("Revoke", () => ask({
      title: "Revoke the key", text: ["Whoever calls with ", said(one.name || one.id, { class: "strong" }), " is refused from now on. This cannot be undone."], submit: "Revoke",
      send: async () => { await remove(at("keys", one.id)); toast("Revoked"); await load(); },
    }), { class: "danger-text", "aria-label": `Revoke ${one.name || one.id}` }), "end"],
  ].filter(Boolean), items);
}

function create(page, tenants, tenant, load) {
  const scopes = Object.entries(SCOPES).filter(([scope]) => (scope === "admin" ? page.session.principal.role === "owner" || page.session.principal.role === "admin" : scope !== "tasks" || page.session.features.sandbox));
  dialog("Create a key", (close) => form({
    submit: "Create", cancel: button("Cancel", close),
    fields: [
      field("Tenant", "tenant", { kind: "select", choices: tenants.map((one) => [one.id, one.name]), value: tenant || tenants[0].id }),
      field("Name", "name", { maxlength: 64, placeholder: "laptop of Ada", hint: "Whose or what it is for" }),
      h("fieldset", {}, h("legend", {}, "May"), scopes.map(([scope, text]) => field(text, `scope.${scope}`, { kind: "checkbox", value: scope === "relay" }))),
      field("Models", "models", { placeholder: "all", hint: "Names with commas between them; empty: all" }),
      field("Ends", "expires", { kind: "select", choices: LIVES }),
      field("Requests a minute", "rpm", { kind: "number", min: 1, max: 1000000, hint: "Empty: the tenant's limit alone" }),
      field("Streams at once", "streams", { kind: "number", min: 1, max: 1000000, hint: "Empty: the tenant's limit alone" }),
    ],
    send: async (data) => {
      const wanted = scopes.map(([scope]) => scope).filter((scope) => data.get(`scope.${scope}`) !== null);
      if (wanted.length === 0) throw new Refused("A key that may do nothing is of no use. Choose at least one.", "scope.relay");
      const body = { tenant: data.get("tenant"), scopes: wanted };
      if (data.get("name").trim()) body.name = data.get("name").trim();
      const models = data.get("models").split(",").map((one) => one.trim()).filter(Boolean);
      if (models.length) body.models = models;
      if (data.get("expires")) body.expires_in_s = Number(data.get("expires"));
      if (data.get("rpm") || data.get("streams")) {
        body.limits = { requests_per_minute: data.get("rpm") ? Number(data.get("rpm")) : null, concurrent_streams: data.get("streams") ? Number(data.get("streams")) : null };
      }
      const made = await post("/keys", body);
      close();
      showOnce(made.key);
      await load();
    },
  }));
}

function showOnce(key) {
  dialog("The new key", (close) => h("div", {},
    notice("warn", "It is shown this once. Copy it now; the gateway keeps only what it needs to recognise it."),
    copyable(key, "Key", "clip"),
    h("p", {}, "For the OpenAI SDK, set the base address to:"), copyable(`${location.origin}/v1`, "Base address", "clip"),
    h("div", { class: "actions" }, button("I have it", close, { class: "primary" }))));
}
