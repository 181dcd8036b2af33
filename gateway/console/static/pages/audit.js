// What was done, by whom, to what: the audit log by filters and pages, and the check that nothing was changed in it.
import { append, h, replace, said, seen } from "../dom.js";
import { get, query } from "../api.js";
import { count, date, nowS, when } from "../format.js";
import { act, badge, button, empty, field, form, notice, table } from "../widgets.js";

export const title = "Audit";
export const permission = "audit.read";

const SPANS = [["3600", "Last hour"], ["86400", "Last day"], ["604800", "Last 7 days"], ["2592000", "Last 30 days"], ["", "From the beginning"]];
const PAGE = 100;

export async function render(page) {
  const result = h("div", {});
  const verdict = h("div", { "aria-live": "polite" });
  const asked = { since: "86400", tenant: "", key: "", action: "" };

  async function load(after, back) {
    const path = query("/audit", {
      since_at_s: asked.since && Math.floor(nowS() - Number(asked.since)), tenant: asked.tenant, key: asked.key, action: asked.action, after_seq: after || "", limit: PAGE,
    });
    const { items, next_after_seq: next } = await get(path, { signal: page.signal });
    const turn = h("div", { class: "actions" },
      back.length > 0 && button("Earlier page", () => act(turn, () => load(back.at(-1), back.slice(0, -1)))),
      next !== null && button("Next page", () => act(turn, () => load(next, [...back, after]))));
    replace(result, items.length === 0 ? empty("No record fits", h("p", {}, "Widen the time or clear the filters.")) : listed(items), turn);
  }

  const verify = button("Verify the chain", () => act(verify, async () => {
    const { records, fault } = await get("/audit/verify", { signal: page.signal });
    replace(verdict, fault === null ? notice("good", `All ${count(records)} records are whole and in their order.`)
      : notice("bad", "The log has been changed: ", said(typeof fault === "string" ? fault : JSON.stringify(fault))));
  }));
  page.actions(verify);
  await load(0, []);
  replace(page.body, verdict, form({
    submit: "Show", cls: "inline",
    fields: [
      field("Time", "since", { kind: "select", choices: SPANS, value: asked.since }),
      field("Tenant", "tenant", { maxlength: 64 }), field("Key", "key", { maxlength: 64 }),
      field("Action", "action", { maxlength: 64, placeholder: "account.probe" }),
    ],
    send: async (data) => {
      for (const name of Object.keys(asked)) asked[name] = data.get(name).trim();
      await load(0, []);
    },
  }), result);

}

function listed(items) {
  return table("Records", [
    ["No.", (one) => count(one.seq), "num muted"],
    ["Time", (one) => h("time", { datetime: new Date(one.at_s * 1000).toISOString(), title: date(one.at_s) }, when(one.at_s))],
    ["Who", (one) => said(one.actor)],
    ["Did", (one) => said(one.action, { class: "strong" })],
    ["Outcome", (one) => badge([one.outcome, one.outcome === "ok" ? "good" : "warn"])],
    ["To", (one) => said(one.target ?? "")],
    ["Tenant, key", (one) => said([one.tenant_id, one.key_id].filter(Boolean).join(", "))],
    ["Model", (one) => said(one.model ?? "")],
    ["Tokens", (one) => (one.input_tokens === null ? "" : `${count(one.input_tokens)} / ${count(one.output_tokens)}`), "num"],
    ["More", (one) => more(one)],
  ], items);
}

function more(one) {
  const pairs = Array.isArray(one.detail) ? one.detail : Object.entries(one.detail ?? {});
  if (pairs.length === 0) return "";
  return append(h("span", { class: "muted" }), [pairs.map(([name, value]) => `${seen(name)} ${seen(value)}`).join(", ")]);
}
