// The people who may use the console, their roles, and the one-time links that they come in by.
import { h, replace, said } from "../dom.js";
import { at, get, patch, post, remove } from "../api.js";
import { when } from "../format.js";
import { ROLES } from "../words.js";
import { act, ask, badge, button, confirmTyped, copyable, dialog, empty, field, form, menu, notice, table, toast } from "../widgets.js";

export const title = "Administrators";
export const permission = "admins.read";

const CHOICES = Object.entries(ROLES).map(([role, text]) => [role, `${role}: ${text}`]);

export async function render(page) {
  const writes = page.can("admins.write");
  const { items: tenants } = page.can("tenants.read") ? await get("/tenants", { signal: page.signal }) : { items: [] };
  const load = async () => {
    const { items } = await get("/admins", { signal: page.signal });
    replace(page.body, items.length === 0 ? empty("No administrator") : listed(items, tenants, writes, page, load));
  };
  await load();
  if (writes) page.actions(button("Add a person", () => create(tenants, load), { class: "primary" }));
}

function listed(items, tenants, writes, page, load) {
  const names = new Map(tenants.map((one) => [one.id, one.name]));
  return table("Administrators", [
    ["Name", (one) => [said(one.name, { class: "strong" }), one.id === page.session.principal.id && h("span", { class: "muted" }, " (you)")]],
    ["Role", (one) => h("span", { title: ROLES[one.role] }, said(one.role))],
    ["Tenant", (one) => (one.tenant_id === null ? h("span", { class: "muted" }, "all") : said(names.get(one.tenant_id) ?? one.tenant_id))],
    ["Signs in by", (one) => (one.sso ? "single sign-on" : one.totp_enabled ? "password and code" : "password")],
    ["State", (one) => badge(one.enabled ? ["Enabled", "good"] : ["Disabled", "off"])],
    ["Last seen", (one) => (one.last_login_at_s === null ? h("span", { class: "muted" }, "never") : when(one.last_login_at_s))],
    writes && ["", (one) => menu(`More for ${one.name}`, [
      ["Change role or tenant", () => change(one, tenants, load)],
      [one.enabled ? "Disable" : "Enable", async (opener) => {
        await act(opener, () => patch(at("admins", one.id), { enabled: !one.enabled, version: one.version }), one.enabled ? "Disabled; the sessions have ended" : "Enabled");
        await load();
      }],
      !one.sso && ["New one-time link", () => ask({
        title: "Make a new link", submit: "Make the link", danger: false,
        text: ["With it ", said(one.name, { class: "strong" }), " sets a new password. Hand it over by a way that you trust."],
        send: async () => { const { link } = await post(at("admins", one.id, "reset")); showLink(one.name, link); },
      })],
      ["Remove", () => confirmTyped({
        title: "Remove the person", name: one.name, submit: "Remove", text: "The sessions end at once. What was done stays in the audit log.",
        send: async () => { await remove(at("admins", one.id)); toast("Removed"); await load(); },
      }), true],
    ].filter(Boolean)), "end"],
  ].filter(Boolean), items);
}

const tenantField = (tenants, value) => field("Tenant", "tenant_id", {
  kind: "select", value: value ?? "", choices: [["", "None: sees all"], ...tenants.map((one) => [one.id, one.name])], hint: "Members see the tasks of their tenant.",
});

function create(tenants, load) {
  dialog("Add a person", (close) => form({
    submit: "Add", cancel: button("Cancel", close),
    fields: [
      field("Name", "name", { required: true, maxlength: 64, autocapitalize: "none", spellcheck: "false", hint: "What he signs in with, such as an e-mail address" }),
      field("Role", "role", { kind: "select", choices: CHOICES, value: "auditor" }),
      tenantField(tenants),
    ],
    send: async (data) => {
      const body = { name: data.get("name").trim(), role: data.get("role") };
      if (data.get("tenant_id")) body.tenant_id = data.get("tenant_id");
      const made = await post("/admins", body);
      close();
      showLink(made.admin.name, made.link);
      await load();
    },
  }));
}

function change(one, tenants, load) {
  dialog("Change role or tenant", (close) => form({
    submit: "Save", cancel: button("Cancel", close),
    fields: [h("p", {}, said(one.name, { class: "strong" })), field("Role", "role", { kind: "select", choices: CHOICES, value: one.role }), tenantField(tenants, one.tenant_id)],
    send: async (data) => {
      await patch(at("admins", one.id), { role: data.get("role"), tenant_id: data.get("tenant_id") || null, version: one.version });
      toast("Saved");
      close();
      await load();
    },
  }));
}

function showLink(name, link) {
  dialog("One-time link", (close) => h("div", {},
    notice("warn", "It works once and is shown once. Whoever has it can sign in as ", said(name, { class: "strong" }), "."),
    copyable(link, "Link", "clip"), h("div", { class: "actions" }, button("I have it", close, { class: "primary" }))));
}
