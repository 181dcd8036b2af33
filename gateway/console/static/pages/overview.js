// How does the gateway stand: accounts by state, pools and when they run dry, and who burns what.
import { h, replace, said, seen } from "../dom.js";
import { get, query } from "../api.js";
import { compact, count, nowS, when } from "../format.js";
import { STATES } from "../words.js";
import { badge, empty, loading, table } from "../widgets.js";

export const title = "Overview";
export const permission = "accounts.read";

const SPANS = [[3600, "Last hour"], [86400, "Last day"], [604800, "Last 7 days"]];
const BY = [["account", "Account"], ["tenant", "Tenant"], ["key", "Key"], ["model", "Model"]];

export async function render(page) {
  const tiles = h("div", { class: "tiles" });
  const pools = h("section", { class: "panel" });
  const burn = h("div", {}, loading());
  const span = h("select", { "aria-label": "Period", onchange: () => burned() }, SPANS.map(([s, name]) => h("option", { value: s }, name)));
  const by = h("select", { "aria-label": "Counted by", onchange: () => burned() }, BY.map(([key, name]) => h("option", { value: key }, name)));

  async function stand() {
    const [now, forecast] = await Promise.all([get("/overview", { signal: page.signal }), get("/forecast", { signal: page.signal })]);
    replace(tiles, shownTiles(now));
    replace(pools, h("h2", {}, "Pools"), shownPools(now.pools, forecast.pools, page));
  }
  async function burned() {
    const path = query("/usage", { since_at_s: Math.floor(nowS() - Number(span.value)), by: by.value });
    const { items } = await get(path, { signal: page.signal });
    replace(burn, shownBurn(items, BY.find(([key]) => key === by.value)[1]));
  }

  await stand();
  replace(page.body, tiles, pools,
    h("section", { class: "panel" }, h("div", { class: "panel-head" }, h("h2", {}, "Burn"), h("div", { class: "row" }, span, by)), burn));
  await burned();
  page.every(15, stand);
  page.every(30, burned);
}

function tile(name, value, note) {
  return h("div", { class: "tile" }, h("span", { class: "tile-name" }, name), h("span", { class: "tile-value" }, value), h("span", { class: "tile-note muted" }, note));
}

function shownTiles(now) {
  const states = Object.entries(now.accounts.by_state).filter(([, number]) => number > 0);
  return [
    tile("Accounts", count(now.accounts.total), states.length === 0 ? "none yet"
      : h("span", { class: "row tight" }, states.map(([state, number]) => {
        const [name, kind] = STATES[state] ?? [state, "off"];
        return badge([`${number} ${seen(name).toLowerCase()}`, kind]);
      }))),
    tile("Requests", count(now.requests_1h), "this hour and the one before"),
    tile("Tokens", compact(now.tokens_1h), "this hour and the one before"),
    tile("Gateway", seen(now.version), `${count(now.workers)} ${now.workers === 1 ? "worker" : "workers"}`),
  ];
}

function shownPools(pools, forecast, page) {
  if (pools.length === 0) {
    return empty("No account yet", h("p", {}, "Requests are refused until there is one."),
      page.can("accounts.write") && h("a", { class: "button primary", href: "/console/accounts/add" }, "Add an account"));
  }
  const said_of = new Map(forecast.map((one) => [one.name, one]));
  return table("Pools", [
    ["Pool", (one) => h("a", { href: `/console/accounts?${new URLSearchParams({ pool: one.name })}` }, said(one.name))],
    ["Usable", (one) => h("span", { class: one.usable === 0 ? "bad-text strong" : null }, `${one.usable} of ${one.accounts}`), "num"],
    ["Runs dry", (one) => {
      const known = said_of.get(one.name) ?? one;
      if (one.usable === 0) return badge(["Dry now", "bad"]);
      if (known.dry_at_s === null) return h("span", { class: "muted" }, "not at this pace");
      const soon = known.dry_at_s - nowS() < 3600;
      return h("span", { class: soon ? "bad-text strong" : null }, when(known.dry_at_s, "both"));
    }],
    ["Certainty", (one) => h("span", { class: "muted" }, { __proto__: null, high: "good", low: "a guess: little is known yet" }[said_of.get(one.name)?.confidence] ?? "–")],
  ], pools);
}

function shownBurn(items, name) {
  if (items.length === 0) return empty("Nothing was asked in this time");
  const most = Math.max(1, ...items.map((one) => one.input_tokens + one.output_tokens));
  return table("Burn", [
    [name, (one) => said(one.name || "–")],
    ["Requests", (one) => count(one.requests), "num"],
    ["Input tokens", (one) => count(one.input_tokens), "num"],
    ["Output tokens", (one) => count(one.output_tokens), "num"],
    ["Errors", (one) => h("span", { class: one.errors ? "bad-text" : "muted" }, count(one.errors)), "num"],
    ["Share", (one) => {
      const fill = h("span", { class: "fill" });
      fill.style.setProperty("inline-size", `${Math.round((100 * (one.input_tokens + one.output_tokens)) / most)}%`);
      return h("span", { class: "bar", "aria-hidden": "true" }, fill);
    }, "share"],
  ], items);
}
