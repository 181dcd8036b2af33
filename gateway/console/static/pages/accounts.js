// The accounts: how each one stands and why, what is left of its windows, and what can be done with it.
import { h, replace, said } from "../dom.js";
import { at, get, patch, post, remove } from "../api.js";
import { compact, count, when } from "../format.js";
import { CAUSES, STATES } from "../words.js";
import { act, badge, bar, button, confirmTyped, dialog, empty, facts, field, form, menu, toast } from "../widgets.js";

export const title = "Accounts";
export const permission = "accounts.read";

export async function render(page) {
  const writes = page.can("accounts.write");
  const list = h("ul", { class: "rows", "aria-label": "Accounts" });
  const tally = h("p", { class: "muted tally", role: "status" });
  const search = h("input", { type: "search", placeholder: "Label, e-mail, id", "aria-label": "Search accounts", oninput: () => shown() });
  const state = h("select", { "aria-label": "State", onchange: () => shown() }, h("option", { value: "" }, "Every state"),
    Object.entries(STATES).map(([key, [name]]) => h("option", { value: key }, name)));
  const pool = h("select", { "aria-label": "Pool", onchange: () => shown() });
  const known = new Map(); // id -> [what was drawn, its element]
  let items = [];

  async function load() {
    ({ items } = await get("/accounts", { signal: page.signal }));
    const pools = [...new Set(items.map((one) => one.pool))].sort();
    const chosen = pool.options.length ? pool.value : page.query.get("pool") ?? "";
    replace(pool, h("option", { value: "" }, "Every pool"), pools.map((name) => h("option", { value: name }, name)));
    pool.value = pools.includes(chosen) ? chosen : "";
    shown();
  }

  function took(account) {
    items = items.map((one) => (one.id === account.id ? account : one));
    shown();
  }

  function shown() {
    const words = search.value.trim().toLowerCase();
    const wanted = items.filter((one) => (!state.value || one.state === state.value) && (!pool.value || one.pool === pool.value) &&
      (!words || [one.label, one.email, one.id, one.plan].some((text) => text?.toLowerCase().includes(words))));
    const nodes = wanted.map((one) => drawn(one));
    if (nodes.length !== list.children.length || nodes.some((node, index) => list.children[index] !== node)) list.replaceChildren(...nodes);
    tally.textContent = wanted.length === items.length ? `${items.length} accounts` : `${wanted.length} of ${items.length} accounts`;
    if (items.length > 0 && wanted.length === 0) replace(list, h("li", {}, empty("No account fits", h("p", {}, "Clear the search to see all."))));
  }

  // An element is made again only when its account changed, so that focus and open menus stay while the page refreshes.
  function drawn(account) {
    const now = JSON.stringify(account);
    const [before, element] = known.get(account.id) ?? [];
    if (before === now) return element;
    if (element?.querySelector('[aria-expanded="true"], [aria-busy="true"]')) return element;
    const focused = element?.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    const made = card(account, writes, took, load);
    known.set(account.id, [now, made]);
    if (focused) {
      element.replaceWith(made);
      made.querySelector(`[data-act="${focused}"]`)?.focus();
    }
    return made;
  }

  await load();
  if (writes) page.actions(h("a", { class: "button primary", href: "/console/accounts/add" }, "Add an account"));
  if (items.length === 0) {
    return replace(page.body, empty("No account yet", h("p", {}, "The gateway relays nothing until an account is here."),
      writes && h("a", { class: "button primary", href: "/console/accounts/add" }, "Add an account")));
  }
  replace(page.body, h("div", { class: "filters", role: "search" }, search, state, pool, tally), list);
  page.every(10, load);
}

function card(account, writes, took, load) {
  const stand = STATES[account.state] ?? [account.state, "off"];
  return h("li", { class: "account" },
    h("div", { class: "account-who" },
      h("h2", {}, said(account.label || account.id)),
      account.email && account.email !== account.label && h("p", {}, said(account.email)),
      h("p", { class: "muted" }, account.plan ? [said(account.plan), " plan · "] : null, "pool ", said(account.pool), account.weight !== 1 && ` · weight ${account.weight}`)),
    h("div", { class: "account-state" }, badge(stand), why(account)),
    h("div", { class: "account-windows" }, account.windows.length === 0
      ? h("p", { class: "muted" }, "Its windows are not known yet; the first answer or a probe tells.")
      : account.windows.map(bar)),
    facts([
      ["Requests", count(account.requests)],
      ["In / out", h("span", { title: `${count(account.input_tokens)} input tokens, ${count(account.output_tokens)} output tokens` }, `${compact(account.input_tokens)} / ${compact(account.output_tokens)}`)],
      ["Refreshed", when(account.refreshed_at_s)],
      ["Token ends", when(account.access_expires_at_s)],
      account.refresh_state && account.refresh_state !== "ready" && ["Refresh", h("span", { class: "bad-text" },
        { __proto__: null, uncertain: "outcome unknown", spent: "used up" }[account.refresh_state] ?? said(account.refresh_state))],
    ]),
    writes && actions(account, took, load));
}

function why(account) {
  const reasons = account.reasons.filter((text) => !text.startsWith("nothing:")); // what the gateway says of a ready one
  if (account.blocks.length === 0 && reasons.length === 0) return null;
  return h("div", { class: "why" },
    account.blocks.map((block) => h("p", {},
      CAUSES[block.cause] ?? said(block.cause),
      block.scope !== "account" && [" (", said(block.scope.replace(/^model:/, "model ")), ")"],
      block.until_at_s !== null && [", until ", when(block.until_at_s, "both")],
      block.next_probe_at_s !== null && [", tried again ", when(block.next_probe_at_s)],
      block.evidence && h("span", { class: "evidence muted" }, said(block.evidence)))),
    account.blocks.length === 0 && reasons.map((text) => h("p", {}, said(text))),
    account.blocks.length > 0 && reasons.length > 0 && h("details", {}, h("summary", {}, "In full"), reasons.map((text) => h("p", {}, said(text)))));
}

function actions(account, took, load) {
  const name = account.label || account.id;
  const path = (...more) => at("accounts", account.id, ...more);
  const change = (body) => patch(path(), { ...body, version: account.version });
  const run = async (element, call, done) => {
    const result = await act(element, call, done);
    if (result) took(result);
    else await load().catch(() => {});
  };
  const turn = account.enabled ? ["Disable", false, "disabled"] : ["Enable", true, "enabled"];
  return h("div", { class: "account-actions" },
    account.status === "needs_reauth" && h("a", { class: "button primary", href: `/console/accounts/add?${new URLSearchParams({ pool: account.pool, expect: account.email ?? "" })}` }, "Sign in again"),
    menu(`Actions for ${name}`, [
      ["Probe: ask the backend now", (opener) => run(opener, () => post(path("probe")), "The account was probed")],
      ["Refresh: get a new token", (opener) => run(opener, () => post(path("refresh")), "The account has a new token")],
      [turn[0], (opener) => run(opener, () => change({ enabled: turn[1] }), `Account ${turn[2]}`)],
      ["Edit: label, pool, weight", () => edit(account, change, took)],
      ["Remove", () => confirmTyped({
        title: "Remove the account", name: account.label, submit: "Remove the account",
        text: "Its tokens are deleted here and taken back at the issuer. Conversations that it serves move to others. This cannot be undone.",
        send: async (label) => {
          const gone = await remove(path(), { confirm: label });
          toast(gone.revoked ? "Removed, and taken back at the issuer" : "Removed. The issuer could not be told: end the session there too.", gone.revoked ? "good" : "bad");
          await load();
        },
      }), true],
    ], "Actions"));
}

function edit(account, change, took) {
  dialog("Edit the account", (close) => form({
    submit: "Save", cancel: button("Cancel", close),
    fields: [
      field("Label", "label", { value: account.label, required: true, maxlength: 64 }),
      field("Pool", "pool", { value: account.pool, required: true, maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", hint: "Only tenants that are given this pool reach the account. A new name makes a new pool." }),
      field("Weight", "weight", { kind: "number", value: account.weight, min: 1, max: 1000, required: true, hint: "An account of weight 2 gets twice the share of one of weight 1." }),
    ],
    send: async (data) => {
      const body = {};
      if (data.get("label") !== account.label) body.label = data.get("label").trim();
      if (data.get("pool") !== account.pool) body.pool = data.get("pool").trim();
      if (Number(data.get("weight")) !== account.weight) body.weight = Number(data.get("weight"));
      if (Object.keys(body).length > 0) {
        took(await change(body));
        toast("Saved");
      }
      close();
    },
  }));
}
