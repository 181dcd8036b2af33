// The tenants: which pools each one is given, in which order, and how much it may ask at once.
import { h, replace, said } from "../dom.js";
import { at, get, patch, post, remove } from "../api.js";
import { when } from "../format.js";
import { badge, button, confirmTyped, dialog, empty, field, form, menu, act, table, toast } from "../widgets.js";

export const title = "Tenants";
export const permission = "tenants.read";

export async function render(page) {
  const writes = page.can("tenants.write");
  const load = async () => {
    const { items } = await get("/tenants", { signal: page.signal });
    replace(page.body, items.length === 0
      ? empty("No tenant yet", h("p", {}, "A tenant is who keys belong to: a team, a customer, a machine."), writes && button("Create a tenant", () => edit(null, load), { class: "primary" }))
      : listed(items, writes, load));
  };
  await load();
  if (writes) page.actions(button("Create a tenant", () => edit(null, load), { class: "primary" }));
}

function listed(items, writes, load) {
  return table("Tenants", [
    ["Name", (one) => [h("div", { class: "strong" }, said(one.name)), h("div", { class: "muted mono" }, said(one.id))]],
    ["Pools, in order", (one) => (one.pools.length === 0 ? h("span", { class: "muted" }, "default") : h("span", {}, one.pools.map((pool, index) => [index > 0 && " → ", said(pool)])))],
    ["Requests a minute", (one) => one.limits.requests_per_minute ?? h("span", { class: "muted" }, "no limit"), "num"],
    ["Streams at once", (one) => one.limits.concurrent_streams ?? h("span", { class: "muted" }, "no limit"), "num"],
    ["State", (one) => badge(one.enabled ? ["Enabled", "good"] : ["Disabled", "off"])],
    ["Created", (one) => when(one.created_at_s)],
    writes && ["", (one) => menu(`More for ${one.name}`, [
      ["Edit", () => edit(one, load)],
      [one.enabled ? "Disable" : "Enable", async (opener) => {
        await act(opener, () => patch(at("tenants", one.id), { enabled: !one.enabled, version: one.version }), one.enabled ? "Its keys are refused from now on" : "Its keys work again");
        await load();
      }],
      ["Remove", () => confirmTyped({
        title: "Remove the tenant", name: one.name, submit: "Remove the tenant", text: "Its keys stop working at once. This cannot be undone.",
        send: async (name) => { await remove(at("tenants", one.id), { confirm: name }); toast("Removed"); await load(); },
      }), true],
    ]), "end"],
  ].filter(Boolean), items);
}

const limit = (text) => (text === "" ? null : Number(text));

function edit(tenant, load) {
  dialog(tenant ? "Edit the tenant" : "Create a tenant", (close) => form({
    submit: tenant ? "Save" : "Create", cancel: button("Cancel", close),
    fields: [
      field("Name", "name", { value: tenant?.name, required: true, maxlength: 64 }),
      field("Pools", "pools", { value: tenant?.pools.join(", "), placeholder: "default", hint: "Names with commas between them; the first is used first. Requests never reach any other pool." }),
      field("Requests a minute", "requests_per_minute", { kind: "number", min: 1, max: 1000000, value: tenant?.limits.requests_per_minute ?? "", hint: "Empty: no limit" }),
      field("Streams at once", "concurrent_streams", { kind: "number", min: 1, max: 1000000, value: tenant?.limits.concurrent_streams ?? "", hint: "Empty: no limit" }),
    ],
    send: async (data) => {
      const body = {
        name: data.get("name").trim(),
        pools: data.get("pools").split(",").map((one) => one.trim()).filter(Boolean),
        limits: { requests_per_minute: limit(data.get("requests_per_minute")), concurrent_streams: limit(data.get("concurrent_streams")) },
      };
      await (tenant ? patch(at("tenants", tenant.id), { ...body, version: tenant.version }) : post("/tenants", body));
      toast(tenant ? "Saved" : "Created");
      close();
      await load();
    },
  }));
}
