// Bringing an account in: by device code, by the address that a browser ended at, or by auth.json.
// A login lives on the gateway and the address holds its id, so a reload, or another replica, goes on with it.
import { h, replace, said, seen } from "../dom.js";
import { get, post, query } from "../api.js";
import { MAX_BYTES, MAX_DOCUMENTS, split } from "../documents.js";
import { LOGIN_STATES, OUTCOMES } from "../words.js";
import { when } from "../format.js";
import { badge, field, form, newId, notice, Refused, table, toast } from "../widgets.js";
import { showLogin } from "./login.js";

export const title = "Add an account";
export const permission = "accounts.read";

const WAYS = [
  ["device", "Device code", "Sign in on any machine with a browser; nothing to copy back. The usual way."],
  ["callback", "Paste the address", "For browsers and networks where a device code is not allowed."],
  ["file", "auth.json", "For logins that a Codex CLI has already made."],
];

export async function render(page) {
  const asked = page.query.get("login");
  if (asked) return showLogin(page, asked);
  if (!page.can("accounts.write")) return replace(page.body, notice("info", "Your role sees logins and does not begin them."), await waiting(page));
  const panel = h("div", { class: "panel", role: "tabpanel", tabindex: -1, id: newId() });
  const tabs = WAYS.map(([way, name]) => h("button", {
    type: "button", role: "tab", id: newId(), "aria-controls": panel.id, onclick: () => choose(way), "data-way": way,
  }, name));
  const choose = (way, focus = false) => {
    for (const tab of tabs) {
      const chosen = tab.dataset.way === way;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) {
        panel.setAttribute("aria-labelledby", tab.id);
        if (focus) tab.focus();
      }
    }
    history.replaceState(null, "", query("/console/accounts/add", { ...Object.fromEntries(page.query), way }));
    replace(panel, h("p", { class: "muted" }, WAYS.find(([key]) => key === way)[2]), way === "file" ? files(page) : begin(page, way));
  };
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": "How the account comes in", onkeydown: (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
    choose(WAYS[(at + step + WAYS.length) % WAYS.length][0], true);
    event.preventDefault();
  } }, tabs);
  const way = page.query.get("way");
  choose(WAYS.some(([key]) => key === way) ? way : "device");
  const open = h("div", {});
  replace(page.body, list, panel, open);
  const again = async () => replace(open, await waiting(page));
  await again();
  page.every(5, again);
}

const landing = (page) => [
  field("Pool", "pool", { value: page.query.get("pool") ?? "", placeholder: "default", maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", hint: "Where the account will land. Tenants that are given this pool use its quota." }),
  field("Label", "label", { maxlength: 64, placeholder: "its e-mail address", hint: "How it is called here." }),
];

function given(data, names) {
  return Object.fromEntries(names.map((name) => [name, (data.get(name) ?? "").trim()]).filter(([, value]) => value !== ""));
}

function begin(page, kind) {
  return form({
    submit: kind === "device" ? "Get a code" : "Begin", cls: "grid",
    fields: [
      landing(page),
      field("Expected account", "expect", { value: page.query.get("expect") ?? "", maxlength: 254, placeholder: "ada@example.com", hint: "E-mail address or account id. When given, any other account is refused." }),
    ],
    send: async (data) => {
      const login = await post("/logins", { kind, ...given(data, ["pool", "label", "expect"]) }).catch((error) => open(page, error));
      await page.go(`/console/accounts/add?${new URLSearchParams({ login: login.id })}`);
    },
  });
}

// Somebody who asks twice for the same gets the one that he left open.
async function open(page, error) {
  if (error.code !== "conflict") throw error;
  const { items } = await get("/logins", { signal: page.signal });
  const found = items.find((one) => one.state === "pending" && error.message.includes(one.id));
  if (!found) throw error;
  toast("You have this sign-in open already: go on with it, or cancel it");
  return found;
}

async function waiting(page) {
  const { items } = await get("/logins", { signal: page.signal });
  if (items.length === 0) return [];
  const latest = [...items].sort((a, b) => b.created_at_s - a.created_at_s).slice(0, 20);
  return h("section", { class: "panel" }, h("h2", {}, "Recent sign-ins"), table("Recent sign-ins", [
    ["State", (one) => badge(LOGIN_STATES[one.state] ?? [one.state, "off"])],
    ["Way", (one) => (one.kind === "device" ? "Device code" : "Pasted address")],
    ["Asked for by", (one) => said(one.requested_by)],
    ["Lands in", (one) => ["pool ", said(one.pool)]],
    ["Began", (one) => when(one.created_at_s)],
    ["", (one) => h("a", { href: `/console/accounts/add?${new URLSearchParams({ login: one.id })}` }, one.state === "pending" ? "Go on" : "Show")],
  ], latest));
}

function files(page) {
  const outcome = h("div", { role: "region", "aria-live": "polite", "aria-label": "Outcome" });
  const picked = h("ul", { class: "picked", "aria-live": "polite" });
  const element = form({
    submit: "Bring in", cls: "grid",
    fields: [
      h("div", { class: "span" }, field("Files", "files", { kind: "file", multiple: true, accept: ".json,application/json", onchange: (event) => {
        replace(picked, [...event.target.files].map((file) => h("li", {}, said(file.name), file.size > MAX_BYTES && h("span", { class: "bad-text" }, " is too large"))));
      }, hint: "One or several auth.json, found in ~/.codex" }), picked),
      h("div", { class: "span" }, field("Or paste", "pasted", { kind: "textarea", class: "mono", autocomplete: "off", placeholder: '{"tokens": {…}}', hint: "Several may stand one behind the other." })),
      landing(page),
      field("Only check, change nothing", "dry_run", { kind: "checkbox" }),
      field("Take it even when it looks older than what is here", "force", { kind: "checkbox" }),
      h("div", { class: "span" }, notice("info", "A refresh token works once. When the gateway has a login, delete every other copy of it: whoever refreshes second is signed out.")),
    ],
    send: async (data, sent) => {
      const documents = await read(data);
      const dry = data.get("dry_run") !== null;
      const body = { documents, dry_run: dry, force: data.get("force") !== null, ...given(data, ["pool", "label"]) };
      const { items } = await post("/accounts/import", body);
      replace(outcome, shownOutcome(items, dry));
      outcome.scrollIntoView({ block: "nearest" });
      const refused = items.filter((one) => one.outcome === "refused").length;
      toast(`${items.length - refused} of ${items.length} ${dry ? "can be brought in" : "brought in"}`, refused ? "bad" : "good");
      if (!dry) {
        sent.elements.namedItem("pasted").value = "";
        sent.elements.namedItem("files").value = "";
        replace(picked);
      }
    },
  });
  return [element, outcome];
}

async function read(data) {
  const documents = [];
  for (const file of data.getAll("files")) {
    if (file.size === 0) continue;
    if (file.size > MAX_BYTES) throw new Refused(`${seen(file.name)} is larger than 1 MiB. It is no auth.json.`, "files");
    const parts = split(await file.text());
    parts.forEach((content, index) => documents.push({ name: parts.length > 1 ? `${file.name.slice(0, 180)} (${index + 1})` : file.name.slice(0, 200), content }));
  }
  split(data.get("pasted")).forEach((content, index) => documents.push({ name: `pasted ${index + 1}`, content }));
  if (documents.length === 0) throw new Refused("Choose a file, or paste the content of one.", "pasted");
  if (documents.length > MAX_DOCUMENTS) throw new Refused(`These are ${documents.length} documents; at most ${MAX_DOCUMENTS} go at once.`, "files");
  return documents;
}

function shownOutcome(items, dry) {
  return h("section", {}, h("h2", {}, dry ? "What would happen" : "What happened"), h("ul", { class: "outcomes" }, items.map((one) => h("li", {},
    badge(OUTCOMES[one.outcome] ?? [one.outcome, "off"]),
    h("div", {},
      h("p", {}, said(one.source, { class: "strong" }), one.label && [" → ", said(one.label)]),
      one.message && h("p", {}, said(one.message), one.outcome === "refused" && h("span", { class: "muted" }, " (", said(one.code), ")")),
      (one.warnings ?? []).map((warning) => h("p", { class: "muted" }, "Note: ", said(warning))))))),
  !dry && items.some((one) => one.outcome !== "refused") && h("p", {}, h("a", { href: "/console/accounts" }, "See the accounts")));
}
